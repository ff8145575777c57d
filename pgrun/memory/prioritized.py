"""Replay of single transitions, sampled by priority."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from pgrun.config.ranges import Count, Fraction
from pgrun.data.types import Transition, VectorEnv
from pgrun.memory.priorities import UNREPORTED, ByPriority, Priorities
from pgrun.memory.replay import Replay
from pgrun.memory.ring import Ring


class Prioritized(ByPriority, Replay):
    """Replay by priority: P(i) = p_i^α / Σ_j p_j^α with p = |δ| + ε.

    Schaul et al. 2016, https://arxiv.org/abs/1511.05952, section 3.3 (proportional) and algorithm 1. A sample has the
    weights w_i = (N · P(i))^−β, over their largest, in extras["weight"]. The algorithm writes |δ| to
    extras["priority"]. New transitions have the largest p so far.

    Args:
        alpha: α, how much priorities count; 0: not at all.
        beta: β at the start; it grows linearly to 1.
        anneal: environment steps until β is 1.
        epsilon: ε, added to every |δ|, so that every transition has a chance.
    """

    def __init__(self, *, alpha: Fraction, beta: Fraction, anneal: Count, epsilon: Fraction, **common: Any) -> None:
        super().__init__(**common)
        self.priorities = Priorities(alpha, beta, anneal, epsilon, self.device)

    def bytes_per_row(self, env: VectorEnv) -> int:
        """Return the bytes of a transition and its priority."""
        return super().bytes_per_row(env) + 8

    def make_ring(self, like: Transition) -> Ring:
        """Make an empty ring, and room for a priority of each row; see `Replay.make_ring`."""
        ring = super().make_ring(like)
        self.priorities.resize(ring.rows)
        return ring

    def add(self, rollout: Transition) -> None:
        """Add a rollout [T, B, ...] with the largest priority so far."""
        super().add(rollout)
        assert self.ring is not None
        index = self.ring.newest(min(rollout.reward.shape[0], self.length))
        self.priorities.fill(index, self.ring.valid[index])

    def batches(self) -> Iterator[Transition]:
        """Yield `updates` samples [M, ...], each drawn after the one before has its priorities."""
        if not self.ready:
            return
        assert self.ring is not None
        for _ in range(self.updates):
            index, weight = self.priorities.draw(self.batch_size, self.ring.size, self.seen)
            (batch,) = self.ring.gather(index, 1, self.learn_device)
            batch.extras["weight"] = weight.to(self.learn_device, torch.float32)
            error = torch.full_like(weight, UNREPORTED, dtype=torch.float32, device=self.learn_device)
            batch.extras["priority"] = error  # where the update reports |δ|, by `report_errors`
            yield batch
            if bool((error != UNREPORTED).any()):
                self.priorities.report(index, error.to(self.device, torch.float64))

    def snapshot(self) -> dict[str, Any]:
        """Return the contents and their priorities; see `Memory.snapshot`."""
        state = super().snapshot()
        return {**state, **self.priorities.snapshot(None if state["ring"] is None else len(state["ring"]["valid"]))}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot; see `Memory.restore`."""
        super().restore(state)
        self.priorities.restore(state, 0 if self.ring is None else self.ring.rows)
