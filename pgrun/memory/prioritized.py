"""Replay of single transitions, sampled by priority."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pgrun.config.ranges import Count, Fraction
from pgrun.core.sum_tree import SumTree
from pgrun.data.types import Transition, VectorEnv
from pgrun.memory.replay import Replay

UNREPORTED = -1.0  # in the place of an error that an update has not reported; errors are never negative


class Prioritized(Replay):
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
        self.alpha, self.beta_0, self.anneal, self.epsilon = alpha, beta, anneal, epsilon
        self.tree: SumTree | None = None
        self.largest = torch.ones((), dtype=torch.float64, device=self.device)  # p_1 = 1; then max_{i<t} p_i

    def bytes_per_row(self, env: VectorEnv) -> int:
        """Return the bytes of a transition and its priority."""
        return super().bytes_per_row(env) + 8

    def share(self, processes: int, here: int) -> None:
        """Check several processes' memories, and anneal over this one's share of steps; see `Replay.share`."""
        super().share(processes, here)
        self.anneal = max(self.anneal // processes, 1)

    def figures(self) -> dict[str, float]:
        """Return how full it is, and β, for curves."""
        return {**super().figures(), "beta": self.beta}

    @property
    def beta(self) -> float:
        """The current β."""
        return self.beta_0 + (1.0 - self.beta_0) * min(self.seen / self.anneal, 1.0)

    def add(self, rollout: Transition) -> None:
        """Add a rollout [T, B, ...] with the largest priority so far."""
        super().add(rollout)
        assert self.ring is not None
        if self.tree is None:
            self.tree = SumTree(self.ring.rows, device=self.device)
        index = self.ring.newest(min(rollout.reward.shape[0], self.length))
        self.tree.set(index, self.ring.valid[index] * self.largest**self.alpha)

    def batches(self) -> Iterator[Transition]:
        """Yield `updates` samples [M, ...], each drawn after the one before has its priorities."""
        if not self.ready:
            return
        assert self.ring is not None
        assert self.tree is not None
        for _ in range(self.updates):
            index = self.tree.draw(self.batch_size)
            (batch,) = self.ring.gather(index, 1, self.learn_device)
            weight = (self.ring.size * self.tree.get(index) / self.tree.total) ** -self.beta
            batch.extras["weight"] = (weight / weight.max()).to(self.learn_device, torch.float32)
            error = torch.full_like(weight, UNREPORTED, dtype=torch.float32, device=self.learn_device)
            batch.extras["priority"] = error  # where the update reports |δ|, by `report_errors`
            yield batch
            if bool((error != UNREPORTED).any()):
                self.update_priorities(index, error.to(self.device, torch.float64))

    def update_priorities(self, index: Tensor, delta: Tensor) -> None:
        """Set the priorities of these rows [M] from |δ| [M]."""
        assert self.tree is not None
        p = delta.nan_to_num(nan=0.0, posinf=0.0) + self.epsilon  # NaN: an update diverged, as the loop reports
        self.largest = torch.maximum(self.largest, p.max())
        self.tree.set(index, p**self.alpha)

    def snapshot(self) -> dict[str, Any]:
        """Return the contents and their priorities; see `Memory.snapshot`."""
        state = super().snapshot()
        kept = state["ring"] is not None and self.tree is not None
        priorities = self.tree.leaves[: len(state["ring"]["valid"])].clone() if kept and self.tree else None
        return {**state, "priorities": priorities, "largest": self.largest}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot; see `Memory.restore`."""
        super().restore(state)
        self.largest = state["largest"].to(self.device)
        if self.ring is not None:
            self.tree = SumTree(self.ring.rows, device=self.device)
            priorities = state["priorities"].to(self.device)
            self.tree.set(torch.arange(len(priorities), device=self.device), priorities)
