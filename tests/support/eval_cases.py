"""Environments whose evaluation differs from training."""

from __future__ import annotations

import breaking  # noqa: F401 (registers the environments)
import torch


class Still:
    """Always does 0."""

    device = torch.device("cpu")

    def initial_carry(self, num_envs):
        return ()

    def act(self, obs, carry, explore):
        return torch.zeros(len(obs), dtype=torch.int64), carry, {}
