"""A memory of the latest rollout alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from pgrun.data.types import Transition, map_transition


class Latest:
    """The latest rollout, learnt from once: on-policy learning."""

    offers = "rollouts"
    in_step = True

    def __init__(self, *, learn_device: str) -> None:
        self.device = torch.device(learn_device)
        self.rollout: Transition | None = None

    def add(self, rollout: Transition) -> None:
        """Keep a rollout [T, B, ...], in place of the one before."""
        on = rollout.reward.device
        self.rollout = rollout if on == self.device else map_transition(lambda x: x.to(self.device), rollout)

    def batches(self) -> Iterator[Transition]:
        """Yield the rollout [T, B, ...]."""
        assert self.rollout is not None
        yield self.rollout

    def snapshot(self) -> dict[str, Any]:
        """Return nothing: the next rollout is all that will be learnt from."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore nothing; see `snapshot`."""
