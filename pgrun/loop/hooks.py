"""Hooks that watch the loop: evaluations and checkpoints. Each knows when it is due.

Two more are in `run/tensorboard.py` and `run/progress.py`; `Run.execute` in `run/run.py` lists them all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.acting import never
from pgrun.collect.collector import Collector
from pgrun.data.types import VectorEnv
from pgrun.loop.evaluate import Evaluation, Interrupted, evaluate
from pgrun.loop.train import Clock

log = logging.getLogger("pgrun")


class Every:
    """Tells when the step count passes a multiple of `n`; never where n is None.

    It depends on the step count alone, so a resumed run is due at the same moments.
    """

    def __init__(self, n: int | None, start: int) -> None:
        self.n = n
        self.next = None if n is None else (start // n + 1) * n

    def __call__(self, steps: int) -> bool:
        """Tell whether it is due, and if so count it as done."""
        if not self.passed(steps):
            return False
        self.pass_by(steps)
        return True

    def passed(self, steps: int) -> bool:
        """Tell whether it is due, without counting it as done."""
        return self.next is not None and steps >= self.next

    def pass_by(self, steps: int) -> None:
        """Count it as done at this step."""
        self.next = None if self.n is None else (steps // self.n + 1) * self.n


class Note:
    """A hook that logs a line once, after the first update.

    Until then the run may still be refused, and a refusal is to be the only line.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Log the line, unless it was logged before."""
        if self.text:
            log.info(self.text)
        self.text = ""


class Evaluate:
    """A hook that evaluates now and then, remembers the best return, and may stop the run when a return is reached.

    An evaluation that is interrupted, or fails, is due again when the run is resumed.

    Args:
        algorithm: the policy to evaluate.
        make_env: makes the environments for so many episodes; called once, at the first evaluation.
        every: environment steps from one evaluation to the next; None: never evaluate.
        episodes: episodes an evaluation.
        stop_at: mean return that stops the run; None: none does.
        stochastic: explore as in training.
        max_steps: steps after which an episode is cut; None: never.
        seed: of each evaluation.
        start: the environment step at which the run begins, or goes on.
        record: called with a metric's name, its value and the environment step.
        on_best: called when the mean return is the best so far.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        make_env: Callable[[int], VectorEnv],
        *,
        every: int | None,
        episodes: int,
        stop_at: float | None,
        stochastic: bool,
        max_steps: int | None,
        seed: int,
        start: int,
        record: Callable[[str, float, int], None],
        on_best: Callable[[], None],
    ) -> None:
        self.algorithm, self.make_env, self.episodes, self.seed = algorithm, make_env, episodes, seed
        self.stop_at, self.due, self.record, self.on_best = stop_at, Every(every, start), record, on_best
        self.stochastic, self.max_steps, self.told = stochastic, max_steps, False
        self.env: VectorEnv | None = None
        self.best: float | None = None
        self.latest: float | None = None
        self.result: Evaluation | None = None  # the latest, of this session
        self.latest_at = -1  # the environment step of that evaluation

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Evaluate if it is due."""
        if not self.due.passed(clock.steps):
            return
        with clock.aside("evaluate"):
            self.at_work(clock)

    def at_work(self, clock: Clock) -> None:
        """Evaluate now and record the result; an interrupted evaluation has none."""
        if self.env is None:
            self.env = self.make_env(self.episodes)
        try:
            result = self.evaluated(self.env, self.episodes, lambda: clock.stop == "interrupted")
        except Interrupted:
            return
        self.due.pass_by(clock.steps)
        self.latest, self.latest_at = result.mean, clock.steps
        self.record("eval/return", result.mean, clock.steps)
        self.result = result
        for name, mean in {**result.stream_means, **result.info_means}.items():
            self.record(f"eval/{name}", mean, clock.steps)
        self.record("eval/episode_length", sum(result.lengths) / len(result.lengths), clock.steps)
        if self.best is None or result.mean > self.best:
            self.best = result.mean
            self.on_best()
        if self.reached:
            clock.stop = "stop_at"

    def evaluated(self, env: VectorEnv, episodes: int, interrupted: Callable[[], bool] = never) -> Evaluation:
        """Evaluate the policy in these environments; the first time that episodes are cut, log a warning."""
        how: dict[str, Any] = {"explore": self.stochastic, "max_steps": self.max_steps, "interrupted": interrupted}
        result = evaluate(self.algorithm, env, episodes, seed=self.seed, **how)
        if result.note and not self.told:
            log.warning(result.note)
            self.told = True
        return result

    @property
    def reached(self) -> bool:
        """True if the latest evaluation reached `stop_at`."""
        return self.stop_at is not None and self.latest is not None and self.latest >= self.stop_at

    def snapshot(self) -> dict[str, Any]:
        """Return the best return so far, the latest, and when the next evaluation is due."""
        return {"best": self.best, "latest": self.latest, "latest_at": self.latest_at, "next": self.due.next}

    def restore(self, state: dict[str, Any], steps: int) -> None:
        """Restore a snapshot at this step; an evaluation that was due there is still due."""
        self.best, self.latest, self.latest_at = state["best"], state["latest"], state["latest_at"]
        due = state.get("next")
        if self.due.n is not None and due is not None and due <= steps:
            self.due.next = due

    def close(self) -> None:
        """Close the environments."""
        if self.env is not None:
            self.env.close()
            self.env = None


class Report:
    """A hook that reports each evaluation, and may stop the run because of it.

    Args:
        evaluation: the hook whose evaluations are reported.
        hopeless: called after each evaluation with the environment step and the mean return; return True to stop the
            run. None: nothing is reported.
    """

    def __init__(self, evaluation: Evaluate, hopeless: Callable[[int, float], bool] | None) -> None:
        self.evaluation, self.hopeless = evaluation, hopeless

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Report the evaluation, if there was one at this step."""
        latest = self.evaluation.latest
        if self.hopeless is None or self.evaluation.latest_at != clock.steps or latest is None or clock.stop:
            return
        if self.hopeless(clock.steps, latest):
            clock.stop = "pruned"


class Checkpoint:
    """A hook that writes a checkpoint every so many environment steps."""

    def __init__(self, write: Callable[[], None], *, every: int | None, start: int) -> None:
        self.write, self.due = write, Every(every, start)

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Write a checkpoint if one is due."""
        if self.due(clock.steps):
            self.write()


class Compiling:
    """A hook that counts compile time apart from the time of learning."""

    def __init__(self, algorithm: Algorithm, collector: Collector) -> None:
        self.algorithm, self.collector = algorithm, collector
        self.seconds = algorithm.compile_seconds, getattr(collector, "compile_seconds", 0.0)

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Move the compile time since the last call out of the time of learning and collecting."""
        learn, collect = self.algorithm.compile_seconds, getattr(self.collector, "compile_seconds", 0.0)
        clock.move("compile", "learn", learn - self.seconds[0])
        clock.move("compile", "collect", collect - self.seconds[1])
        self.seconds = learn, collect
