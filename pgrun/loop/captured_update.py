"""Whole updates as CUDA graphs."""

from __future__ import annotations

import logging

from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.data.types import Transition
from pgrun.errors import CantRecord
from pgrun.loop.train import Update
from pgrun.optim.captured import Captured
from pgrun.optim.cuda_graphs import Graphs

log = logging.getLogger("pgrun")


class CapturedUpdate:
    """An algorithm's update as one CUDA graph; where it can't be one, its gradient steps are graphs of their own.

    Args:
        algorithm: the algorithm that learns.
        update: its update, perhaps with diagnostics.
        graphs: makes the graphs.
    """

    def __init__(self, algorithm: Algorithm, update: Update, graphs: Graphs) -> None:
        self.update, self.able = update, True
        warm = any(step.compile for step in algorithm.steps().values())
        self.captured = Captured(update, graphs, (algorithm, update), warm=warm)

    def __call__(self, batch: Transition) -> dict[str, Tensor]:
        """Learn from a batch; see `Algorithm.update`."""
        if self.able:
            try:
                metrics: dict[str, Tensor] = self.captured(batch)
                return metrics
            except CantRecord as why:
                self.able = False
                log.info("graph=true: an update is not one graph (%s); its gradient steps are, where they can be", why)
        return self.update(batch)
