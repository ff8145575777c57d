"""What is learnt from: the latest rollout, or a replay of many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from pgrun.types import Transition, flatten_time, map_transition, rows


class Memory(Protocol):
    """Decides what an update sees."""

    def add(self, rollout: Transition) -> None:
        """Take a rollout [T, B, ...]."""

    def batches(self) -> Iterator[Transition]:
        """What to learn from now; nothing while it still fills."""

    def snapshot(self) -> dict[str, Any]:
        """The contents as tensors and plain values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Put a snapshot back."""


class Latest:
    """The last rollout, once: on-policy learning."""

    def __init__(self, *, learn_device: str) -> None:
        self.device = torch.device(learn_device)
        self.rollout: Transition | None = None

    def add(self, rollout: Transition) -> None:
        on = rollout.reward.device
        self.rollout = rollout if on == self.device else map_transition(lambda x: x.to(self.device), rollout)

    def batches(self) -> Iterator[Transition]:
        """The rollout [T, B, ...]."""
        assert self.rollout is not None
        yield self.rollout

    def snapshot(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """There is nothing to put back: the next rollout is all that will be learnt from."""


class Replay:
    """A ring of single transitions, sampled uniformly with the global torch generator.

    Args:
        capacity: transitions kept.
        batch_size: rows a sample, M.
        warmup: environment steps before the first update.
        updates: samples, and so updates, after each rollout.
        device: where the ring lies; samples go to `learn_device`.
    """

    def __init__(
        self, *, capacity: int, batch_size: int, warmup: int, updates: int, device: str, learn_device: str
    ) -> None:
        self.capacity, self.batch_size, self.warmup, self.updates = capacity, batch_size, warmup, updates
        self.device, self.learn_device = torch.device(device), torch.device(learn_device)
        self.ring: Transition | None = None
        self.size = self.position = self.seen = 0

    def add(self, rollout: Transition) -> None:
        flat = flatten_time(rollout)
        if not bool(flat.valid.all()):  # filler rows are nobody's experience
            flat = rows(flat, flat.valid.nonzero().squeeze(-1))
        flat = map_transition(lambda x: x[-self.capacity :].to(self.device), flat)
        n = flat.reward.shape[0]
        if self.ring is None:
            self.ring = map_transition(lambda x: x.new_zeros((self.capacity, *x.shape[1:])), flat)
        head = min(n, self.capacity - self.position)
        _put(self.ring, flat, self.position, 0, head)
        _put(self.ring, flat, 0, head, n - head)
        self.position = (self.position + n) % self.capacity
        self.size = min(self.size + n, self.capacity)
        self.seen += n

    def batches(self) -> Iterator[Transition]:
        """`updates` samples [M, ...]."""
        if self.ring is None or self.seen < self.warmup or self.size == 0:
            return
        for _ in range(self.updates):
            index = torch.randint(self.size, (self.batch_size,), device=self.device)
            sample = rows(self.ring, index)
            yield sample if self.device == self.learn_device else map_transition(self._to_learner, sample)

    def _to_learner(self, x: Tensor) -> Tensor:
        return x.to(self.learn_device, non_blocking=True)

    def snapshot(self) -> dict[str, Any]:
        ring = None if self.ring is None else map_transition(lambda x: x[: self.size], self.ring)
        fields = None if ring is None else ring._asdict()
        return {"ring": fields, "size": self.size, "position": self.position, "seen": self.seen}

    def restore(self, state: dict[str, Any]) -> None:
        self.size, self.position, self.seen = state["size"], state["position"], state["seen"]
        if state["ring"] is None:
            return
        saved = Transition(**state["ring"])
        self.ring = map_transition(
            lambda x: torch.zeros((self.capacity, *x.shape[1:]), dtype=x.dtype, device=self.device), saved
        )
        _put(self.ring, saved, 0, 0, self.size)


def _put(ring: Transition, flat: Transition, at: int, start: int, n: int) -> None:
    """Copy rows start..start+n of `flat` to rows at..at+n of `ring`."""
    if n <= 0:
        return
    for target, source in zip(tensors(ring), tensors(flat), strict=True):
        target[at : at + n] = source[start : start + n]


def tensors(transition: Transition) -> Iterator[Tensor]:
    """Every tensor of a transition, in a fixed order."""
    for field in transition:
        if isinstance(field, dict):
            yield from field.values()
        else:
            yield field
