"""The interface of memories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from pgrun.data.types import Transition


class Memory(Protocol):
    """Keeps rollouts and decides what an update sees."""

    offers: str  # "rollouts" [T, B, ...] or single "steps" [M, ...]
    in_step: bool  # True if processes with a part of the environments each get equally many batches

    def add(self, rollout: Transition) -> None:
        """Add a rollout [T, B, ...]."""

    def batches(self) -> Iterator[Transition]:
        """Yield the batches to learn from now; none while the memory still fills."""

    def snapshot(self) -> dict[str, Any]:
        """Return the contents as tensors and plain values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot."""
