"""Wrappers of a user's own that halve observations."""

from __future__ import annotations

from typing import Any

import gymnasium as gym


class Halves(gym.ObservationWrapper):
    def __init__(self, env: gym.Env, by: int = 2) -> None:
        super().__init__(env)

    def observation(self, x: Any) -> Any:
        return x / 2


def halves_of(by: int) -> Any:
    """Make what wraps."""
    return lambda env: Halves(env, by)


def put_round(game: gym.Env, by: int) -> gym.Env:
    return Halves(game, by)
