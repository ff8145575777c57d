"""A memory of the last rollouts, from which whole trajectories are sampled again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from pgrun.config.ranges import Count, CountOrZero, NotNegative
from pgrun.data.types import Transition, columns, map_transition, pad
from pgrun.memory.side_by_side import cut, mark, side_by_side, tensors


class Trajectories:
    """The last `capacity` rollouts: the latest comes first, then samples of B columns out of all that are kept.

    The extras that the acting policies recorded (log_prob and the like) stay with their data. extras["fresh"] marks the
    latest rollout's rows. Rollouts of unequal length are padded with valid=False, and a rollout's final row becomes
    `last`: no trace crosses into the padding.

    Args:
        capacity: rollouts kept, N.
        replay_ratio: samples after each rollout; of a fraction, so often one more.
        poisson: draw their number from a Poisson distribution of this mean, as ACER does.
        warmup: environment steps before the first sample; the latest rollout is learnt from at once.
        merge: put the latest rollout and the samples side by side into one batch, instead of one after the other; no
            trajectory stands twice in it.
        device: where the ring lies; batches go to `learn_device`.
    """

    offers = "rollouts"

    def __init__(
        self,
        *,
        capacity: Count,
        replay_ratio: NotNegative,
        poisson: bool,
        warmup: CountOrZero,
        merge: bool,
        device: str,
        learn_device: str,
    ) -> None:
        self.capacity, self.replay_ratio, self.poisson = capacity, replay_ratio, poisson
        self.warmup, self.merge = warmup, merge
        self.device, self.learn_device = torch.device(device), torch.device(learn_device)
        self.latest: Transition | None = None
        self.ring: Transition | None = None  # [T, N·B, ...]: rollout i fills the columns from i·B on
        self.lengths: list[int] = []  # T of each rollout in the ring
        self.position = self.seen = 0

    def add(self, rollout: Transition) -> None:
        """Add a rollout [T, B, ...]."""
        self.latest = rollout
        length, b = rollout.reward.shape
        kept = cut(map_transition(lambda x: x.to(self.device), rollout))
        if self.ring is None:
            size = self.capacity * b
            self.ring = map_transition(lambda x: x.new_zeros((length, size, *x.shape[2:])), kept)
        self.ring = pad(self.ring, length)
        kept = pad(kept, self.ring.reward.shape[0])
        for target, source in zip(tensors(self.ring), tensors(kept), strict=True):
            target[:, self.position * b : (self.position + 1) * b] = source
        self.lengths[self.position : self.position + 1] = [length]
        self.position = (self.position + 1) % self.capacity
        self.seen += int(rollout.valid.sum())

    def batches(self) -> Iterator[Transition]:
        """Yield the latest rollout [T, B, ...] and the samples, one after the other or side by side."""
        assert self.latest is not None
        b, draws = self.latest.reward.shape[1], self.draws()
        latest = mark(self.latest, fresh=True)
        if self.merge:  # one batch: no trajectory twice, so that a mean over the others never holds one's own
            old = self.sample(draws * b, without_latest=True) if draws and len(self.lengths) > 1 else None
            samples = [latest] if old is None else [side_by_side([latest, mark(old, fresh=False)])]
        else:
            samples = [latest, *(mark(self.sample(b), fresh=False) for _ in range(draws))]
        for batch in samples:
            yield map_transition(lambda x: x.to(self.learn_device, non_blocking=True), batch)

    def figures(self) -> dict[str, float]:
        """Return how full it is, for a curve: the share of its capacity."""
        return {"fill": len(self.lengths) / self.capacity}

    def draws(self) -> int:
        """Return how many samples to take now."""
        if self.seen < self.warmup:
            return 0
        if self.poisson:
            return int(torch.poisson(torch.tensor(float(self.replay_ratio))))
        whole = int(self.replay_ratio)
        fraction = self.replay_ratio - whole
        return whole + int(fraction > 0 and float(torch.rand(())) < fraction)

    def sample(self, size: int, *, without_latest: bool = False) -> Transition:
        """Draw columns uniformly and without replacement from those that are kept.

        Args:
            size: how many; all that there are where that is less.
            without_latest: leave out the rollout that was added last.

        Returns:
            [T, size, ...], with T the length of the longest rollout among them.
        """
        assert self.ring is not None
        b = self.ring.reward.shape[1] // self.capacity
        index = torch.randperm((len(self.lengths) - without_latest) * b)[:size]
        if without_latest:  # the columns from the latest on are one rollout further
            latest = (self.position - 1) % self.capacity
            index = index + b * (index >= latest * b)
        length = max(self.lengths[i // b] for i in index.tolist())
        return columns(map_transition(lambda x: x[:length], self.ring), index.to(self.device))

    def snapshot(self) -> dict[str, Any]:
        """Return the rollouts and the counts; see `Memory.snapshot`."""
        fields = None
        if self.ring is not None:
            used = len(self.lengths) * (self.ring.reward.shape[1] // self.capacity)
            fields = map_transition(lambda x: x[:, :used].clone(), self.ring)._asdict()
        return {"ring": fields, "lengths": list(self.lengths), "position": self.position, "seen": self.seen}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot; see `Memory.restore`."""
        self.lengths, self.position, self.seen = list(state["lengths"]), state["position"], state["seen"]
        if state["ring"] is None:
            return
        saved = Transition(**state["ring"])
        size = self.capacity * (saved.reward.shape[1] // len(self.lengths))
        self.ring = map_transition(
            lambda x: torch.zeros((x.shape[0], size, *x.shape[2:]), dtype=x.dtype, device=self.device), saved
        )
        for target, source in zip(tensors(self.ring), tensors(saved), strict=True):
            target[:, : source.shape[1]] = source
