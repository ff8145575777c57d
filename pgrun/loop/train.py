"""The one training loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.collector import Collector
from pgrun.data.types import Transition
from pgrun.errors import Diverged
from pgrun.memory.memory import Memory


class Clock:
    """Where the run stands: environment steps, updates, seconds."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self.steps = 0  # environment steps: filler and padding rows are not counted
        self.updates = 0
        self.stop = ""  # why to stop before total_steps: "interrupted", "stop_at" or "pruned"
        self.seconds = dict.fromkeys(("collect", "learn", "hooks"), 0.0)
        self.apart = dict.fromkeys(("compile", "evaluate"), 0.0)  # what is counted in none of these; this session's
        self.begun = time.perf_counter()  # when the loop's part that it is in began

    @property
    def running(self) -> bool:
        """Whether there is anything left to do."""
        return self.steps < self.total_steps and not self.stop

    @property
    def interrupted(self) -> bool:
        """Whether to leave the rollout that is being collected open; a resumed run goes on with it."""
        return self.stop == "interrupted"

    @property
    def progress(self) -> float:
        """How much of the run is done, in [0, 1]."""
        return min(self.steps / self.total_steps, 1.0)

    def advance(self, rollout: Transition) -> None:
        """Count a rollout's real steps."""
        self.steps += int(rollout.valid.sum())  # on a GPU a sync point

    def count_update(self) -> None:
        """Count an update."""
        self.updates += 1

    def start(self) -> None:
        """Begin to measure the loop's first part."""
        self.begun = time.perf_counter()

    def lap(self, part: str) -> None:
        """End a part of the loop, and begin the next."""
        now = time.perf_counter()
        self.seconds[part] += now - self.begun
        self.begun = now

    @contextmanager
    def aside(self, part: str) -> Iterator[None]:
        """Count the time within the block apart, and not in the loop's part that it is in."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - begin
            self.apart[part] += seconds
            self.begun += seconds

    def move(self, part: str, source: str, seconds: float) -> None:
        """Count seconds apart that a part of the loop has been given already."""
        self.apart[part] += seconds
        self.seconds[source] -= seconds

    @property
    def train_seconds(self) -> float:
        """Time that it has trained: the loop's time without compiling and evaluating."""
        return sum(self.seconds.values())

    def snapshot(self) -> dict[str, Any]:
        """As plain values."""
        return {"steps": self.steps, "updates": self.updates, "seconds": dict(self.seconds)}

    def restore(self, state: dict[str, Any]) -> None:
        """Put a snapshot back."""
        self.steps, self.updates = state["steps"], state["updates"]
        self.seconds = dict(state["seconds"])


class Hook(Protocol):
    """Something that watches the loop and knows when it is due."""

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Called after every update."""


def train(algorithm: Algorithm, collector: Collector, memory: Memory, clock: Clock, hooks: Sequence[Hook]) -> None:
    """Collect, remember, learn, until the clock says stop."""
    collector.interrupted = lambda: clock.interrupted
    while clock.running:
        clock.start()
        algorithm.set_progress(clock.progress)  # every schedule reads this
        if (rollout := collector.collect(algorithm)) is None:
            break
        clock.advance(rollout)
        clock.lap("collect")
        memory.add(rollout)
        metrics = mean_of(learn(algorithm, memory, clock))  # {} while a memory still fills
        check_finite(metrics, clock)
        clock.lap("learn")
        for hook in hooks:
            hook(clock, metrics)
        clock.lap("hooks")


def learn(algorithm: Algorithm, memory: Memory, clock: Clock) -> Iterable[dict[str, Tensor]]:
    """One update for each batch that the memory offers."""
    for batch in memory.batches():
        yield algorithm.update(batch)
        clock.count_update()


def mean_of(metrics: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each metric over those of several updates that have it."""
    every = list(metrics)
    if len(every) < 2:
        return every[0] if every else {}
    keys = {key: None for each in every for key in each}
    return {key: torch.stack([each[key] for each in every if key in each]).mean() for key in keys}


def check_finite(metrics: dict[str, Tensor], clock: Clock) -> None:
    """Raise Diverged where a loss or a gradient is not finite; on a GPU the loop's one sync point."""
    if not metrics:
        return
    values = torch.stack(list(metrics.values()))
    if bool(torch.isfinite(values.sum())):
        return
    for key, value in zip(metrics, values.tolist(), strict=True):
        if value != value or value in (float("inf"), float("-inf")):
            raise Diverged(f"{key} is {value}")
