"""What is learnt from: the latest rollout, a replay of whole rollouts, demonstrations (and see `replay`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from pgrun.data.types import Transition


class Memory(Protocol):
    """Decides what an update sees."""

    offers: str  # "rollouts" [T, B, ...] or single "steps" [M, ...]
    in_step: bool  # whether those of several processes, with a part of the environments each, offer as many batches

    def add(self, rollout: Transition) -> None:
        """Take a rollout [T, B, ...]."""

    def batches(self) -> Iterator[Transition]:
        """What to learn from now; nothing while it still fills."""

    def snapshot(self) -> dict[str, Any]:
        """The contents as tensors and plain values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Put a snapshot back."""
