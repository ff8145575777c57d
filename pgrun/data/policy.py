"""The interface of policies: what collecting and evaluating need of an algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from pgrun.data.types import Carry, Obs


class Policy(Protocol):
    """A policy that acts and carries what it remembers from step to step.

    It may have an attribute `lasting`: the places of what in its carry outlasts an episode.
    """

    progress: float  # share of the run that is over, 0 to 1, for schedules of exploration

    device: torch.device

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Choose actions.

        Args:
            obs: [B, *O].
            carry: what the policy remembers of the steps before.
            explore: sample, or add noise; False: act as well as it can.

        Returns:
            The actions [B, *A], the new carry, and what to record beside them, each [B, ...].
        """

    def set_progress(self, progress: float) -> None:
        """Take the share of the run that is over, for schedules."""

    def initial_carry(self, num_envs: int) -> Carry:
        """Return the carry at the start of an episode, for so many environments."""

    def replica(self, device: str | torch.device) -> Self:
        """Copy the policy onto another device."""

    def state_dict(self) -> dict[str, Any]:
        """Return the policy's tensors by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Copy tensors into the policy."""
