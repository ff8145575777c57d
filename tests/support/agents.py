"""Small parallel environments of several agents, of which every step is known."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pettingzoo import ParallelEnv

BOX = gym.spaces.Box(-100.0, 100.0, (2,), np.float32)


class Ladder(ParallelEnv):
    """Agent k sees (k, t), is paid its action times (k + 1), and leaves after `leaves[k]` steps: terminated, or
    truncated where `truncates`. Its first step pays what the seed draws.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "ladder"}

    def __init__(self, leaves: tuple[int, ...] = (2, 4), truncates: bool = False, wild: bool = False) -> None:
        self.leaves, self.truncates, self.wild = leaves, truncates, wild
        self.possible_agents = [["one", "two", "three"][k] for k in range(len(leaves))]
        self.rng = np.random.default_rng()
        self.agents: list[str] = []
        self.t = 0

    def observation_space(self, agent: str) -> gym.Space:
        return BOX

    def action_space(self, agent: str) -> gym.Space:
        return gym.spaces.Discrete(3)

    def see(self) -> dict[str, np.ndarray]:
        return {a: np.array([self.possible_agents.index(a), self.t], dtype=np.float32) for a in self.agents}

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.agents, self.t = list(self.possible_agents), 0
        self.luck = float(self.rng.normal()) if not self.wild else float(np.random.normal())
        return self.see(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        assert set(actions) == set(self.agents)
        self.t += 1
        seen, there = self.see(), self.agents
        luck = self.luck if self.t == 1 else 0.0
        reward = {a: float(actions[a]) * (self.possible_agents.index(a) + 1) + luck for a in there}
        gone = {a: self.t >= self.leaves[self.possible_agents.index(a)] for a in there}
        none = dict.fromkeys(there, False)
        self.agents = [a for a in there if not gone[a]]
        terminated, truncated = (none, gone) if self.truncates else (gone, none)
        return seen, reward, terminated, truncated, {a: {} for a in there}


class Mixed(Ladder):
    """Agents with spaces of their own: a choice, numbers, and two choices."""

    SPACES: ClassVar[dict[str, gym.Space]] = {
        "one": gym.spaces.Discrete(3, start=2),
        "two": gym.spaces.Box(np.array([0.0, -3.0], np.float32), np.array([1.0, 5.0], np.float32)),
        "three": gym.spaces.MultiDiscrete([2, 4]),
    }

    def __init__(self, max_cycles: int = 6) -> None:
        super().__init__((max_cycles,) * 3, truncates=True)
        self.took: list[dict[str, Any]] = []

    def action_space(self, agent: str) -> gym.Space:
        return self.SPACES[agent]

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        self.took.append(actions)
        return super().step(dict.fromkeys(actions, 1))


class Steady(Ladder):
    """Every step pays every agent 1, and a limit of eight steps cuts the episode."""

    def __init__(self) -> None:
        super().__init__((8, 8), truncates=True)

    def see(self) -> dict[str, np.ndarray]:
        return {a: np.ones(2, dtype=np.float32) for a in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        seen, reward, terminated, truncated, info = super().step(actions)
        return seen, dict.fromkeys(reward, 1.0), terminated, truncated, info


class Broken(Ladder):
    """An agent that leaves sees something that is not a number."""

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        seen, reward, terminated, truncated, info = super().step(actions)
        return {a: x * (np.nan if terminated[a] else 1.0) for a, x in seen.items()}, reward, terminated, truncated, info


class Nobody(Ladder):
    """It does not say who there can be."""

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = []


class Pictures(Ladder):
    """Dict observations."""

    def observation_space(self, agent: str) -> gym.Space:
        return gym.spaces.Dict({"x": BOX, "action_mask": gym.spaces.MultiBinary(3)})

    def see(self) -> dict[str, Any]:
        return {a: {"x": x, "action_mask": np.ones(3, np.int8)} for a, x in super().see().items()}


class Accord(Ladder):
    """One step, two choices; both are paid 1 for the same one, −1 for two."""

    def __init__(self) -> None:
        super().__init__((1, 1))

    def action_space(self, agent: str) -> gym.Space:
        return gym.spaces.Discrete(2)

    def see(self) -> dict[str, np.ndarray]:
        return {a: np.zeros(2, dtype=np.float32) for a in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        seen, _, ended, cut, info = super().step(actions)
        return seen, dict.fromkeys(actions, 1.0 if len(set(actions.values())) == 1 else -1.0), ended, cut, info
