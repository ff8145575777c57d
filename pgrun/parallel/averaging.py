"""What ranks that learn together share: a clock, and the average of their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pgrun.collect.episode_stats import EpisodeStats
from pgrun.core import ranks
from pgrun.data.types import Transition
from pgrun.loop.train import Clock
from pgrun.optim.gradient_step import GradientStep
from pgrun.parallel.messages import gather

if TYPE_CHECKING:
    pass


class CommonClock(Clock):
    """A clock that counts all ranks' steps; they stop together, and the leader hears of every finished episode."""

    stats: EpisodeStats
    rank = 0

    @property
    def running(self) -> bool:
        return ranks.largest_count(int(not super().running)) == 0

    @property
    def interrupted(self) -> bool:
        return False  # the ranks bring whole rollouts, together

    def advance(self, rollout: Transition) -> None:
        mine = torch.tensor([int(rollout.valid.sum()), len(self.stats.finished) if self.rank else 0])
        steps, finished = ranks.total(mine).tolist()
        self.steps += steps
        if finished:
            self.hear(gather((self.stats.take(), self.stats.take_streams()) if self.rank else None))

    def hear(self, others: Sequence[Any]) -> None:
        """Take the others' finished episodes into the leader's figures."""
        stats = self.stats
        for episodes, streams in filter(None, others):
            stats.finished += episodes
            stats.recent += [episode_return for episode_return, _ in episodes]
            stats.count += len(episodes)
            for name, returns in streams.items():
                stats.finished_streams.setdefault(name, []).extend(returns)


class Average:
    """Step along the mean of all ranks' gradients, weighed by how many rows each is a mean of."""

    def step(self, step: GradientStep, *args: Any) -> Tensor:
        """θ ← θ − α ĝ, ĝ = Σ n_r g_r / Σ n_r, on every rank, and the metrics' means likewise; -> the norm of ĝ."""
        grad = step.theta.grad
        assert grad is not None
        mean, *metrics = ranks.mean(rows(args, grad), grad, *step.metrics.values())
        grad.copy_(mean)
        step.metrics.update(zip(step.metrics, metrics, strict=True))
        return step.descend(*args)

    def begin(self, step: GradientStep, progress: float) -> None:
        """All ranks have the same parameters already."""


def rows(args: Sequence[Any], like: Tensor) -> Tensor:
    """n, how many rows a loss of these arguments is a mean of: the valid ones of the first Transition, or of a mask
    that comes last; else 1, for all ranks alike. 0-dim.
    """
    for x in args:
        if isinstance(x, Transition):
            return x.valid.sum()
    mask = args[-1] if args else None
    return mask.sum() if isinstance(mask, Tensor) and mask.dtype is torch.bool else like.new_ones(())
