"""The one training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.collector import Collector
from pgrun.data.types import Transition
from pgrun.errors import Diverged, UserError
from pgrun.memory.memory import Memory


class Clock:
    """The state of a run: environment steps, updates, seconds."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self.steps = 0  # environment steps: filler and padding rows are not counted
        self.updates = 0
        self.stop = ""  # why to stop before total_steps: "interrupted", "stop_at", "pruned" or a hook's own word
        self.seconds = dict.fromkeys(("collect", "learn", "hooks"), 0.0)
        self.apart = dict.fromkeys(("compile", "evaluate"), 0.0)  # counted in none of these; of this session
        self.begun = time.perf_counter()  # when the current part of the loop began

    @property
    def running(self) -> bool:
        """True while there is anything left to do."""
        return self.steps < self.total_steps and not self.stop

    @property
    def interrupted(self) -> bool:
        """True if the rollout that is being collected is to stay open; a resumed run goes on with it."""
        return self.stop == "interrupted"

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return min(self.steps / self.total_steps, 1.0)

    def advance(self, rollout: Transition) -> None:
        """Count the real steps of a rollout."""
        self.steps += int(rollout.valid.sum())  # on a GPU a sync point

    def count_update(self) -> None:
        """Count an update."""
        self.updates += 1

    def start(self) -> None:
        """Begin to time the loop's first part."""
        self.begun = time.perf_counter()

    def lap(self, part: str) -> None:
        """Count the time since the last call as this part of the loop's, and begin to time the next."""
        now = time.perf_counter()
        self.seconds[part] += now - self.begun
        self.begun = now

    @contextmanager
    def aside(self, part: str) -> Iterator[None]:
        """Count the block's time apart, and not in the part of the loop that it runs in."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - begin
            self.apart[part] += seconds
            self.begun += seconds

    def move(self, part: str, source: str, seconds: float) -> None:
        """Move seconds that were counted in a part of the loop, `source`, to those counted apart."""
        self.apart[part] += seconds
        self.seconds[source] -= seconds

    @property
    def train_seconds(self) -> float:
        """Seconds of training: the loop's time without compiling and evaluating."""
        return sum(self.seconds.values())

    def snapshot(self) -> dict[str, Any]:
        """Return steps, updates and seconds as plain values."""
        return {"steps": self.steps, "updates": self.updates, "seconds": dict(self.seconds)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot."""
        self.steps, self.updates = state["steps"], state["updates"]
        self.seconds = dict(state["seconds"])


class Hook(Protocol):
    """Something that watches the loop and knows when it is due."""

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Run after each rollout and the updates from it.

        Args:
            clock: the run's state.
            metrics: the updates' mean metrics; {} if there was no update.
        """


Update = Callable[[Transition], dict[str, Tensor]]  # learns from a batch of the memory; returns 0-dim metrics


def train(
    algorithm: Algorithm,
    collector: Collector,
    memory: Memory,
    clock: Clock,
    hooks: Sequence[Hook],
    *,
    update: Update | None = None,
) -> None:
    """Run the loop: collect, remember and learn until the clock says stop.

    Args:
        algorithm: the policy that acts, and learns.
        collector: makes rollouts.
        memory: takes rollouts, and offers batches.
        clock: counts, and says when to stop.
        hooks: called after each rollout and the updates from it.
        update: learns from a batch, in place of `algorithm.update`: the same with diagnostics, for example.
    """
    collector.interrupted = lambda: clock.interrupted
    while clock.running:
        clock.start()
        algorithm.set_progress(clock.progress)  # every schedule reads this
        if (rollout := collector.collect(algorithm)) is None:
            break
        clock.advance(rollout)
        clock.lap("collect")
        memory.add(rollout)
        metrics = mean_of(learn(update or algorithm.update, memory, clock))  # {} while a memory still fills
        check_finite(metrics, clock)
        clock.lap("learn")
        for hook in hooks:
            hook(clock, metrics)
        clock.lap("hooks")


def learn(update: Update, memory: Memory, clock: Clock) -> Iterable[dict[str, Tensor]]:
    """Make one update for each batch that the memory offers, and yield its metrics."""
    for batch in memory.batches():
        yield update(batch)
        clock.count_update()


def mean_of(metrics: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average each metric over the updates that have it."""
    updates = list(metrics)
    if len(updates) < 2:
        return updates[0] if updates else {}
    keys = {key: None for update in updates for key in update}
    return {key: stacked([(key, update[key]) for update in updates if key in update]).mean() for key in keys}


def stacked(metrics: Sequence[tuple[str, Tensor]]) -> Tensor:
    """Stack values of metrics; raise UserError for one that is no number of a tensor."""
    try:
        return torch.stack([value for _, value in metrics])
    except (TypeError, RuntimeError):
        for key, value in metrics:
            if not isinstance(value, Tensor) or value.dim():
                found = f"of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise UserError(f"the metric {key} is {found}: an update returns tensors without an axis") from None
        raise


def check_finite(metrics: dict[str, Tensor], clock: Clock) -> None:
    """Raise Diverged if a loss or a gradient is not finite. On a GPU this is the loop's one synchronization."""
    if not metrics:
        return
    values = stacked(list(metrics.items()))
    if bool(torch.isfinite(values.sum())):
        return
    for key, value in zip(metrics, values.tolist(), strict=True):
        if value != value or value in (float("inf"), float("-inf")):
            raise Diverged(f"{key} is {value}")
