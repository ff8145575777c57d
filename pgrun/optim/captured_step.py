"""Gradient steps as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pgrun.data.minibatches import Pick
from pgrun.data.types import Transition
from pgrun.errors import CantRecord
from pgrun.optim.captured import Captured
from pgrun.optim.cuda_graphs import Graphs
from pgrun.optim.functional import Metrics

log = logging.getLogger("pgrun")


class Step(Protocol):
    """A gradient step, as far as its graphs need it; see `GradientStep`."""

    owner: nn.Module
    loss: Callable[..., Any]
    prepare_args: Callable[..., Any] | None
    optimizer: Any
    compile: bool
    exchange: Any
    metrics: Metrics
    norm_key: str

    def __call__(self, *args: Any) -> Metrics:
        """Take the step; return the metrics."""

    def taken(self, *args: Any) -> Tensor:
        """Take the step, and capture nothing."""

    @property
    def by_number(self) -> bool:
        """Whether the optimizer's rule can be applied piece by piece."""


class CapturedStep:
    """The graphs of one gradient step: of a single step, and of one on each of a rollout's minibatches.

    Args:
        of: the step.
        graphs: makes the graphs.
    """

    def __init__(self, of: Step, graphs: Graphs) -> None:
        self.of, self.graphs, self.gave_up = of, graphs, False
        roots = (of.owner, of.loss, of.prepare_args, of.optimizer)
        more = {"passed": (type(of), CapturedStep), "warm": of.compile}
        self.functions = {
            "take": Captured(self.take, graphs, roots, **more),  # type: ignore[arg-type]
            "each": Captured(self.each, graphs, roots, **more),  # type: ignore[arg-type]
        }

    @property
    def seconds(self) -> float:
        """Seconds that capturing has taken."""
        return sum(function.seconds for function in self.functions.values())

    @property
    def able(self) -> bool:
        """Whether the step is captured now: not as a part of something else that is, nor with other processes."""
        return not self.gave_up and not self.graphs.busy and self.of.exchange is None and self.of.by_number

    def run(self, name: str, *args: Any) -> Any:
        """Replay a function's graph; None where it isn't captured, and nothing was done."""
        if not self.able:
            return None
        try:
            return self.functions[name](*args)
        except CantRecord as why:
            self.gave_up = True
            of = self.of.norm_key.removeprefix("gradient/norm").replace("_", " of ")
            log.info("graph=true: the gradient step%s is not captured: %s", of, why)
            return None

    def take(self, *args: Any) -> tuple[Tensor, Metrics]:
        """Take one step; return the gradient's norm and the metrics."""
        norm = self.of.taken(*args)
        return norm, self.of.metrics

    def each(self, index: Tensor, pick: Pick | None, whole: Transition, *args: Any) -> Metrics:
        """Take a step on each minibatch, [n, M] their rows; None for `pick`: each one is the whole."""
        steps = [self.of(whole if pick is None else pick(whole, rows), *args) for rows in index.unbind()]
        return {key: torch.stack([metrics[key] for metrics in steps]).mean() for key in steps[0]}
