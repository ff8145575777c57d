"""Environments that break, never end, say odd things, or are wrapped for training alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

spaces = gym.spaces
LOOK = np.zeros(2, np.float32)


class Breaks(gym.Env):
    """Pays 1 a step for 5 steps, and breaks `how` at its step number `at` (of all episodes)."""

    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, how: str = "not", at: int = 60) -> None:
        self.how, self.at, self.n = how, at, 0
        if how == "init":
            raise RuntimeError("no licence for the simulator\nask somebody")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        if self.how == "reset" and self.n >= self.at:
            raise RuntimeError("the simulator lost its connection")
        return LOOK, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        self.n += 1
        if self.n == self.at:
            self.breaks()
        return LOOK, 1.0, self.t >= 5, False, {}

    def breaks(self) -> None:
        if self.how == "raise":
            raise RuntimeError("the simulator lost its connection")
        if self.how == "sysexit":
            raise SystemExit(5)
        if self.how == "exit":
            os._exit(3)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "interrupt":
            raise KeyboardInterrupt
        if self.how == "signal":
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None:
        if self.how == "close":
            raise RuntimeError("already closed")


def said(kind: str, odd: int) -> Any:
    """An info of some kind, which differs between copies and steps."""
    kinds: dict[str, Callable[[], Any]] = {
        "shapes": lambda: {"path": np.zeros((2 + odd, 2))},
        "types": lambda: {"x": 1 if odd else "left"},
        "none or a number": lambda: {"x": None if odd else 1.5},
        "a dict or not": lambda: {"x": {"a": 1} if odd else 1.5},
        "a big number": lambda: {"x": 10**30},
        "final_obs": lambda: {"final_obs": "mine", "final_info": {"a": 1}},
        "episode": lambda: {"episode": {"r": 1.0, "l": 3}, "own_reward": "mine", "goes_on": "mine"},
        "odd keys": lambda: {(1, 2): 3, 1: 3.0},
        "what can't be sent": lambda: {"f": lambda: 1},
        "nothing": lambda: None,
    }
    return kinds[kind]()


KINDS = (
    *("shapes", "types", "none or a number", "a dict or not", "a big number", "final_obs", "episode", "odd keys"),
    *("what can't be sent", "nothing"),
)


class Talks(gym.Env):
    """Counts in its observation, episodes of 5 or 6 steps, and says all sorts of things in `info`."""

    observation_space = spaces.Box(-10, 10, (2,), np.float32)
    action_space = spaces.Discrete(2)
    made = 0

    def __init__(self, kind: str) -> None:
        self.kind, self.number = kind, Talks.made
        Talks.made += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), said(self.kind, self.number % 2)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
        self.t += 1
        info = said(self.kind, (self.t + self.number) % 2)
        return np.full(2, self.t, np.float32), 1.0, self.t >= 5 + self.number % 2, False, info


class Corridor(gym.Env):
    """No time limit: action 1 ends it, action 0 stays and pays. `seeded` lets some episodes end by themselves."""

    observation_space = spaces.Box(-10, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, kind: str = "corridor") -> None:
        self.kind = kind

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        self.short = self.kind == "sometimes" and self.np_random.random() < 0.5
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        ends = (self.kind == "corridor" and bool(action)) or (self.short and self.t >= 3)
        return np.ones(1, np.float32), 1.0, ends, False, {}


class Game(gym.Env):
    """Five lives of 4 steps, each step pays 7: a game returns 140."""

    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, pays: float = 7.0, cells: int = 0) -> None:
        self.pays = pays
        if cells:
            self.observation_space = spaces.Box(0, 10, (cells,), np.float32)

    def look(self) -> Any:
        return np.zeros(self.observation_space.shape, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {"lives": 5}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        return self.look(), self.pays, self.t >= 20, False, {"lives": 5 - self.t // 4}


class OneLife(gym.Wrapper):
    """Ends an episode at each life's loss, and goes on with the same game: for training alone."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.lives, self.over = 0, True

    def reset(self, **kwargs: Any) -> Any:
        if self.over:
            obs, info = self.env.reset(**kwargs)
        else:
            obs, _, _, _, info = self.env.step(0)
        self.lives = info["lives"]
        return obs, info

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.over = terminated
        lost, self.lives = info["lives"] < self.lives, info["lives"]
        return obs, reward, terminated or lost, truncated, info


class Simulator(Breaks):
    """Of which `most` can run at once; remembers how many there ever were."""

    running: set[Simulator] = set()  # noqa: RUF012
    ever = 0

    def __init__(self, most: int = 1) -> None:
        if len(self.running) >= most:
            raise RuntimeError(f"port 2000 is in use: {len(self.running)} simulators are running already")
        super().__init__()
        self.running.add(self)
        Simulator.ever += 1

    def close(self) -> None:
        self.running.discard(self)


for _kind in (Breaks, Talks, Corridor, Game, Simulator):
    gym.register(f"{_kind.__name__}-v0", entry_point=_kind)  # type: ignore[arg-type]
