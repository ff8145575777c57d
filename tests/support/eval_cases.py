"""Environments whose evaluation differs from training."""

from __future__ import annotations

import breaking  # noqa: F401 (registers the environments)
import torch
from torch import Tensor

from pgrun.data.types import Carry


class Still:
    """Always does 0."""

    device = torch.device("cpu")

    def initial_carry(self, num_envs: int) -> Carry:
        return ()

    def act(self, obs: Tensor, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        return torch.zeros(len(obs), dtype=torch.int64), carry, {}
