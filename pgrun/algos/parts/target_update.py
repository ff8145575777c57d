"""How slow copies (target networks, average policies) follow the networks that are learned."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pgrun.errors import UserError


class TargetUpdate(nn.Module):
    """The move of slow copies by a share at every update: θ̄ ← τθ + (1 − τ)θ̄, an exponential mean (Polyak's).

    Args:
        share: τ.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, pairs: Iterable[tuple[Tensor, Tensor]], due: bool = True) -> None:
        """Move the copies after an update, in place.

        Args:
            pairs: parameters [P] of a copy and those that it follows, or running statistics.
            due: whether copies that follow by a share move at this update.
        """
        if due:
            for slow, learned in pairs:
                slow.lerp_(learned, self.share)


class PeriodicUpdate(TargetUpdate):
    """The move of slow copies after the n-th, 2n-th, … update alone; by a share of 1 these are hard copies, θ̄ ← θ.

    It counts the updates in its state, so that a resumed run goes on within a period.

    Args:
        every: n.
        share: τ.
    """

    def __init__(self, every: int, share: float) -> None:
        super().__init__(share)
        self.every, self.updates = every, 0

    def forward(self, pairs: Iterable[tuple[Tensor, Tensor]], due: bool = True) -> None:
        """Count an update, and copy if its period is over; see `TargetUpdate.forward`."""
        self.updates += 1
        super().forward(pairs, self.updates % self.every == 0)

    def get_extra_state(self) -> Tensor:
        """Return the count of updates, for the state dict."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Load the count of updates."""
        self.updates = int(state)


def target_update(share: float | None, every: int | None, *, key: str = "tau", mixed: bool = False) -> TargetUpdate:
    """Make the rule by which slow copies follow, of the two settings that name one.

    Args:
        share: τ; None: 1, for hard copies.
        every: n, updates from one copy to the next; None: the copies move at every update.
        key: the setting that the share is from, for the messages.
        mixed: whether a move every n updates may be by a share below 1.

    Raises:
        UserError: neither is given, or both are.
    """
    if every is None and share is None:
        raise UserError(
            f"algo.{key}=null and algo.target_every=null leave target networks where they began: give one of the two"
        )
    if every is None:
        assert share is not None
        return TargetUpdate(share)
    if share is not None and share < 1.0 and not mixed:
        raise UserError(
            f"algo.{key} and algo.target_every={every} are two rules for one target network: "
            f"use algo.{key}=null with algo.target_every={every}, or algo.target_every=null"
        )
    return PeriodicUpdate(every, 1.0 if share is None else share)
