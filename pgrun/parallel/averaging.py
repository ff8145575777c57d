"""Data parallelism: a clock that counts the steps of all ranks, and the average of their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pgrun.collect.episode_stats import EpisodeStats
from pgrun.core import ranks
from pgrun.data.types import Transition, loss_rows
from pgrun.loop.train import Clock
from pgrun.optim.gradient_step import GradientStep
from pgrun.parallel.messages import gather


class CommonClock(Clock):
    """A clock that counts the environment steps of all ranks, so that they stop together.

    The leader also receives the statistics of every rank's finished episodes.
    """

    stats: EpisodeStats
    rank = 0

    @property
    def running(self) -> bool:
        """Return whether every rank still has something to do; see `Clock.running`."""
        return ranks.largest_count(int(not super().running)) == 0

    @property
    def interrupted(self) -> bool:
        """Return False: ranks collect whole rollouts, since they take every step together."""
        return False

    def advance(self, rollout: Transition) -> None:
        """Count the real steps of all ranks' rollouts, and collect their finished episodes on the leader."""
        counts = torch.tensor([int(rollout.valid.sum()), len(self.stats.finished) if self.rank else 0])
        steps, finished = ranks.total(counts).tolist()
        self.steps += steps
        if finished:
            self.hear(gather(self.taken() if self.rank else None))

    def taken(self) -> tuple[Any, ...]:
        """Take this rank's finished episodes, and what is known of them, for the leader."""
        return self.stats.take(), self.stats.take_streams(), self.stats.take_infos()

    def hear(self, others: Sequence[Any]) -> None:
        """Add the finished episodes of other ranks to the leader's statistics.

        Args:
            others: one entry a rank: its finished episodes, their reward streams and infos, or None.
        """
        stats = self.stats
        for episodes, streams, infos in filter(None, others):
            stats.hear_infos(infos)
            stats.finished += episodes
            stats.recent += [episode_return for episode_return, _ in episodes]
            stats.count += len(episodes)
            for name, returns in streams.items():
                stats.finished_streams.setdefault(name, []).extend(returns)


class Average:
    """The gradient exchange of data parallelism: every rank steps along the weighted mean of all gradients."""

    def step(self, step: GradientStep, *args: Any) -> Tensor:
        """Take the step θ ← θ − α ĝ with ĝ = Σ n_r g_r / Σ n_r, the same on every rank.

        n_r is the number of rows that the loss of rank r is a mean of. Metrics are averaged in the same way.

        Returns:
            The norm of ĝ.
        """
        grad = step.theta.grad
        assert grad is not None
        mean, *metrics = ranks.mean(loss_rows(args, grad), grad, *step.metrics.values())
        grad.copy_(mean)
        step.metrics.update(zip(step.metrics, metrics, strict=True))
        return step.descend(*args)

    def begin(self, step: GradientStep, progress: float) -> None:
        """Do nothing: all ranks have the same parameters already."""
