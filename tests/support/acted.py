"""Environments that note every action that they are given."""

from __future__ import annotations

import copy
from typing import Any

import agents
import gymnasium as gym
import numpy as np
from worlds import VECTOR, World

ACTIONS: list[Any] = []  # in the order in which they came, whatever environment they were given to


class Acted(gym.Wrapper):
    """Notes actions."""

    def step(self, action: Any) -> Any:
        ACTIONS.append(copy.deepcopy(action))
        return self.env.step(action)


class MaskBeside(World):
    """Says in info which of its actions are allowed: never the first, and another one of the rest each time."""

    def __init__(self) -> None:
        super().__init__(VECTOR, gym.spaces.Discrete(4, start=3))

    def info(self) -> dict[str, Any]:
        self.mask = np.array([0, 1, 1, 1], np.int8)
        self.mask[1 + self.np_random.integers(3)] = 0
        return {"action_mask": self.mask}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        obs, _ = super().reset(seed=seed)
        return obs, self.info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.mask[action - 3]
        obs, reward, terminated, truncated, _ = super().step(action)
        return obs, reward, terminated, truncated, self.info()


gym.register("MaskBeside-v0", entry_point=MaskBeside, max_episode_steps=7)  # type: ignore[arg-type]


def noting(env: Any) -> Any:
    """Note the actions of a parallel environment."""
    step = env.step

    def noted(actions: dict[str, Any]) -> Any:
        ACTIONS.append(copy.deepcopy(actions))
        return step(actions)

    env.step = noted
    return env


def spread() -> Any:
    """Three agents that cover three landmarks."""
    from mpe2 import simple_spread_v3

    return noting(simple_spread_v3.parallel_env())


def mixed() -> Any:
    """Agents with spaces of their own, of which one leaves before the others."""
    return noting(agents.Mixed())


def ladder() -> Any:
    """Agents of one kind, of which one leaves before the other."""
    return noting(agents.Ladder())
