"""An environment and a world whose pictures are the number of the step, so that frames can be told apart."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from pgrun.envs.tensor import Outcome, World

spaces = gym.spaces


def drawn(t: int) -> np.ndarray:
    """A picture of a number."""
    return np.full((6, 9, 3), t, np.uint8)


class Counting(gym.Env):
    """Episodes of 3 to 6 steps, drawn by lot; each step pays its number."""

    metadata: Any = {"render_modes": ["human", "rgb_array"], "render_fps": 25}  # noqa: RUF012
    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    made = 0

    def __init__(self, render_mode: str | None = None, picture: str = "count", forgets: bool = False):
        self.render_mode, self.picture, self.forgets = render_mode, picture, forgets
        self.t, self.length = 0, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        Counting.made += 1
        self.t, self.length = 0, int(self.np_random.integers(3, 7)) + Counting.made % 50 * self.forgets
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return np.zeros(1, np.float32), float(self.t), self.t >= self.length, False, {}

    def render(self) -> Any:
        if self.picture == "raises" and self.t:
            raise RuntimeError("no paint")
        return {"count": drawn(self.t), "none": None, "raises": drawn(0), "grey": drawn(self.t)[:, :, 0]}[self.picture]


class Blind(Counting):
    """The same without a picture."""

    metadata: Any = {"render_modes": ["human"]}  # noqa: RUF012


class Old(Counting):
    """The same with a constructor that takes no render mode."""

    def __init__(self) -> None:
        super().__init__()


class CountingWorld(World):
    """Episodes of 4 steps on tensors, drawn alike."""

    obs_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    render_fps = 12

    def initial(self, n: int, rng: torch.Generator) -> torch.Tensor:
        return torch.zeros(n, 1)

    def observe(self, state: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(state)

    def step(self, state: torch.Tensor, action: torch.Tensor, rng: torch.Generator) -> Outcome:
        state = state + 1.0
        return Outcome(state, state[:, 0], state[:, 0] >= 4.0)

    def render(self, state: torch.Tensor) -> Any:
        return drawn(int(state[0]))


gym.register("Counting-v0", "counting:Counting")
gym.register("Old-v0", "counting:Old")
gym.register("Blind-v0", "counting:Blind")
