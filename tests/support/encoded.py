"""Observations and encoders of every kind."""

from typing import Any

import gymnasium as gym
import numpy as np

from pgrun.nn import CNN, MLP

spaces = gym.spaces


COMMON: dict[str, Any] = {
    "activation": "tanh",
    "init_gain": 1.0,
    "head_gain": 0.01,
    "shared": False,
    "log_std_init": 0.0,
}


VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)


def mlp(**changes: Any) -> MLP:
    return MLP(**{"hidden": [8, 5], "normalize_obs": False, **COMMON, **changes})


def cnn(**changes: Any) -> CNN:
    return CNN(**{"hidden": [16], "channels": [4, 6, 8], "channels_last": None, **COMMON, **changes})


def image(*shape: int, dtype: Any = np.uint8, high: int = 255) -> spaces.Box:
    return spaces.Box(0, high, shape, dtype)
