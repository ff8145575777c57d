"""Observations and encoders of every kind."""

import gymnasium as gym
import numpy as np

from pgrun.nn import CNN, MLP

spaces = gym.spaces


COMMON = {"activation": "tanh", "init_gain": 1.0, "head_gain": 0.01, "shared": False, "log_std_init": 0.0}


VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)


def mlp(**changes):
    return MLP(**{"hidden": [8, 5], "normalize_obs": False, **COMMON, **changes})


def cnn(**changes):
    return CNN(**{"hidden": [16], "channels": [4, 6, 8], "channels_last": None, **COMMON, **changes})


def image(*shape, dtype=np.uint8, high=255):
    return spaces.Box(0, high, shape, dtype)
