"""Replay of sequences of steps, sampled by priority."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pgrun.config.ranges import Count, Fraction
from pgrun.data.types import Transition, VectorEnv
from pgrun.memory.priorities import UNREPORTED, ByPriority, Priorities
from pgrun.memory.ring import Ring
from pgrun.memory.sequences import Sequences


class PrioritizedSequences(ByPriority, Sequences):
    """Replay of sequences by priority: of a sequence's errors, p = η max_t |δ_t| + (1 − η) mean_t |δ_t| + ε.

    Kapturowski et al. 2019, https://openreview.net/forum?id=r1lyTjAqYX (R2D2), section 2.3; draws and weights are those
    of `Priorities`, and each row has its sequence's weight. The errors are those of the steps that are learnt from. A
    sequence has the largest p so far as soon as all its steps are there, and none once one of them is written over.

    Args:
        eta: η, how much the largest error of a sequence counts, beside the mean of all.
        alpha: α, how much priorities count; 0: not at all.
        beta: β at the start; it grows linearly to 1.
        anneal: environment steps until β is 1.
        epsilon: ε, added to every priority, so that every sequence has a chance.
    """

    def __init__(
        self, *, eta: Fraction, alpha: Fraction, beta: Fraction, anneal: Count, epsilon: Fraction, **common: Any
    ) -> None:
        super().__init__(**common)
        self.eta = eta
        self.priorities = Priorities(alpha, beta, anneal, epsilon, self.device)
        self.there = torch.zeros(0, dtype=torch.bool)  # where a whole sequence begins, [rows / stride]

    def bytes_per_row(self, env: VectorEnv) -> int:
        """Return the bytes of one transition, and its share of the states and priorities."""
        return super().bytes_per_row(env) + -(-8 // self.stride)

    def make_ring(self, like: Transition) -> Ring:
        """Make an empty ring, room for the states, and for a priority of each sequence; see `Replay.make_ring`."""
        self.there = torch.zeros(self.length // self.stride, dtype=torch.bool, device=self.device)
        self.priorities.resize(len(self.there) * self.num_envs)
        return super().make_ring(like)

    def add(self, rollout: Transition) -> None:
        """Add a rollout [T, B, ...]. The sequences that it completes have the largest priority so far."""
        super().add(rollout)
        assert self.ring is not None
        t = min(len(rollout.reward), self.length)
        written = (self.ring.position - t + torch.arange(t, device=self.device)) % self.length // self.stride
        before, self.there = self.there, self.whole()
        changed = before != self.there
        changed[written] = True
        changed = changed.nonzero().squeeze(-1)
        every = (changed.unsqueeze(-1) * self.num_envs + torch.arange(self.num_envs, device=self.device)).flatten()
        self.priorities.fill(every, self.there[changed].repeat_interleave(self.num_envs))

    def whole(self) -> Tensor:
        """Return at which places a whole sequence begins, [rows / stride] bool."""
        assert self.ring is not None
        there = torch.zeros(self.length // self.stride, dtype=torch.bool, device=self.device)
        first = self.ring.position - self.ring.filled + self.places.start
        row = first + self.stride * torch.arange(len(self.places), device=self.device)
        there[row % self.length // self.stride] = True
        return there

    def batches(self) -> Iterator[Transition]:
        """Yield `updates` samples [N, ...], each drawn after the one before has its priorities."""
        if not self.ready:
            return
        b, m = self.num_envs, self.batch_size
        for _ in range(self.updates):
            index, weight = self.priorities.draw(m, len(self.places) * b, self.seen)
            numbers = torch.arange(m, device=self.device)
            begin = index // b * self.stride * b + index % b
            batch = self.sample(begin, weight=weight.to(torch.float32), sequence=numbers)
            if batch is None:
                continue
            sequence = batch.extras.pop("sequence")
            error = torch.full_like(batch.reward, UNREPORTED, dtype=torch.float32)
            batch.extras["priority"] = error  # where the update reports |δ|, by `report_errors`
            yield batch
            if bool((error != UNREPORTED).any()):
                self.priorities.report(index, of_sequences(error, sequence, m, self.eta).to(self.device))

    def snapshot(self) -> dict[str, Any]:
        """Return the contents, the states and the priorities; see `Memory.snapshot`."""
        state = super().snapshot()
        n = None if state["ring"] is None else len(self.there) * self.num_envs
        return {**state, **self.priorities.snapshot(n)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot; see `Memory.restore`."""
        super().restore(state)
        if self.ring is not None:
            self.there = self.whole()
        self.priorities.restore(state, len(self.there) * self.num_envs)


def of_sequences(error: Tensor, sequence: Tensor, m: int, eta: float) -> Tensor:
    """Compute η max_t |δ_t| + (1 − η) mean_t |δ_t| of m sequences.

    Args:
        error: |δ| of each row, [N].
        sequence: each row's sequence, [N].
        m: how many there are.
        eta: η.

    Returns:
        One number a sequence, [m]; 0 of one that has no rows.
    """
    error = error.to(torch.float64)
    zeros = error.new_zeros(m)
    most = zeros.scatter_reduce(0, sequence, error, "amax")
    count = zeros.index_add(0, sequence, torch.ones_like(error)).clamp(min=1.0)
    return eta * most + (1.0 - eta) * zeros.index_add(0, sequence, error) / count
