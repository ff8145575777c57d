"""The interface of policies: what collecting and evaluating need of an algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from pgrun.data.types import Carry, Obs


class Policy(Protocol):
    """Something that acts."""

    progress: float  # share of the run that is over, 0 to 1, for schedules of exploration

    device: torch.device

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Choose actions.

        Args:
            obs: [B, *O].
            carry: what it remembers of the steps before.
            explore: sample, or add noise; False: act as well as it can.

        Returns:
            actions [B, *A], the new carry, and what is recorded beside them, each [B, ...].
        """

    def initial_carry(self, num_envs: int) -> Carry:
        """Return what it remembers at an episode's start, for so many environments."""

    def replica(self, device: str | torch.device) -> Self:
        """Copy it onto another device."""

    def state_dict(self) -> dict[str, Any]:
        """Return its tensors by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Put tensors back."""
