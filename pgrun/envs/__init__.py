"""Environments: one adapter for each library, so that no other folder knows how an environment resets."""

from pgrun.envs.make import make as make
from pgrun.envs.pettingzoo import make_parallel as make_parallel
from pgrun.envs.tensor import TensorEnv as TensorEnv
