"""The environment `my_part`: walk to a place on a line, to start from."""

from typing import Any

import gymnasium as gym
import numpy as np


class MyPart(gym.Env):
    """A walk on a line: paid for being near a place that is seen, for `length` steps.

    Args:
        length: steps of an episode.
        pace: how far a step goes.
    """

    observation_space = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)  # where I am, where the place is
    action_space = gym.spaces.Discrete(3)  # left, stay, right

    def __init__(self, length: int = 20, pace: float = 0.1) -> None:
        self.length, self.pace = length, pace

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)  # makes self.np_random, the only source of chance
        self.at, self.place = self.np_random.uniform(-1.0, 1.0, 2)
        self.t = 0
        return self.observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one step; return observation, reward, whether it terminated, whether it was cut, and more."""
        self.at = np.clip(self.at + self.pace * (int(action) - 1), -2.0, 2.0)
        self.t += 1
        reward = 1.0 - abs(self.at - self.place)
        return self.observe(), float(reward), False, self.t >= self.length, {}  # a time limit cuts; it ends nothing

    def observe(self) -> np.ndarray:
        """Return what is seen."""
        return np.array([self.at, self.place], np.float32)


gym.register("MyPart-v0", f"{__name__}:MyPart")
