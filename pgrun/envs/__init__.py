"""Environments: one adapter per backend, so that nothing above knows how an environment resets."""

from pgrun.envs.make import make as make
from pgrun.envs.tensor import TensorEnv as TensorEnv
