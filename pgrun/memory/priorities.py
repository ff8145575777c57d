"""Priorities of what a replay holds: draws in proportion to them, and the weights that make up for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.core.sum_tree import SumTree

UNREPORTED = -1.0  # in the place of an error that an update has not reported; errors are never negative


class Priorities:
    """Priorities p of n places: place i is drawn with P(i) = p_i^α / Σ_j p_j^α.

    Schaul et al. 2016, https://arxiv.org/abs/1511.05952, section 3.3 (proportional) and algorithm 1.

    Args:
        alpha: α, how much priorities count; 0: not at all.
        beta: β at the start; it grows linearly to 1.
        anneal: environment steps until β is 1.
        epsilon: ε, added to every error, so that every place has a chance.
        device: where they lie.
    """

    def __init__(self, alpha: float, beta: float, anneal: int, epsilon: float, device: torch.device) -> None:
        self.alpha, self.beta_0, self.anneal, self.epsilon = alpha, beta, anneal, epsilon
        self.device = device
        self.tree = SumTree(0, device=device)
        self.largest = torch.ones((), dtype=torch.float64, device=device)  # p_1 = 1; then max_{i<t} p_i

    def resize(self, n: int) -> None:
        """Make room for n places, all of priority 0."""
        self.tree = SumTree(n, device=self.device)

    def beta(self, seen: int) -> float:
        """Return β after so many environment steps."""
        return self.beta_0 + (1.0 - self.beta_0) * min(seen / self.anneal, 1.0)

    def fill(self, index: Tensor, there: Tensor) -> None:
        """Give the places [M] the largest priority so far; 0 where nothing is there [M]."""
        self.tree.set(index, there * self.largest**self.alpha)

    def draw(self, m: int, n: int, seen: int) -> tuple[Tensor, Tensor]:
        """Draw m places.

        Args:
            m: how many.
            n: N, how many there are to draw from.
            seen: environment steps so far, for β.

        Returns:
            The places, and the weights w_i = (N · P(i))^−β over their largest; both [m].
        """
        index = self.tree.draw(m)
        weight = (n * self.tree.get(index) / self.tree.total) ** -self.beta(seen)
        return index, weight / weight.max()

    def report(self, index: Tensor, error: Tensor) -> None:
        """Set the priorities of these places [M] from their errors [M]: p = error + ε."""
        p = error.nan_to_num(nan=0.0, posinf=0.0) + self.epsilon  # NaN: an update diverged, as the loop reports
        self.largest = torch.maximum(self.largest, p.max())
        self.tree.set(index, p**self.alpha)

    def snapshot(self, n: int | None) -> dict[str, Any]:
        """Return the priorities of the first n places, or None of them, and the largest so far."""
        return {"priorities": None if n is None else self.tree.leaves[:n].clone(), "largest": self.largest}

    def restore(self, state: dict[str, Any], n: int) -> None:
        """Restore a snapshot into room for n places; 0: it has none."""
        self.largest = state["largest"].to(self.device)
        if n:
            self.resize(n)
            priorities = state["priorities"].to(self.device)
            self.tree.set(torch.arange(len(priorities), device=self.device), priorities)


class ByPriority:
    """A part of replays that sample by priority. It comes before `Replay` among their bases."""

    priorities: Priorities
    seen: int

    def share(self, processes: int, here: int) -> None:
        """Check several processes' memories, and anneal over this one's share of steps; see `Replay.share`."""
        super().share(processes, here)  # type: ignore[misc]
        self.priorities.anneal = max(self.priorities.anneal // processes, 1)

    def figures(self) -> dict[str, float]:
        """Return how full it is, and β, for curves."""
        return {**super().figures(), "beta": self.priorities.beta(self.seen)}  # type: ignore[misc]
