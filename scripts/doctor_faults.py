"""Wrappers that break an environment on purpose, for the trials of `pgrun doctor`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Rewards(gym.RewardWrapper):
    """Multiplies every reward."""

    def __init__(self, env: gym.Env, scale: float) -> None:
        super().__init__(env)
        self.scale = scale

    def reward(self, reward: Any) -> float:
        """Return the scaled reward."""
        return self.scale * float(reward)


class Observations(gym.ObservationWrapper):
    """Multiplies every observation."""

    def __init__(self, env: gym.Env, scale: float) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gym.spaces.Box)
        self.scale = scale
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, space.shape, np.float64)

    def observation(self, observation: Any) -> np.ndarray:
        """Return the scaled observation."""
        return np.asarray(observation, dtype=np.float64) * self.scale


class Ends(gym.Wrapper):
    """Reports a time limit as a death, or a death as a time limit."""

    def __init__(self, env: gym.Env, dies: bool) -> None:
        super().__init__(env)
        self.dies = dies

    def step(self, action: Any) -> Any:
        """Take a step, and tell all ends as of one kind."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        over = terminated or truncated
        return obs, reward, over and self.dies, over and not self.dies, info
