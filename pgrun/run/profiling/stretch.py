"""The stretch of a run that is measured: after the warm-up, and before some iterations that are looked at closely."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from pgrun.collect.random_actions import legal, random_actions
from pgrun.data.stepping import stepped
from pgrun.data.types import VectorEnv
from pgrun.loop.train import Clock
from pgrun.run.build import Parts
from pgrun.run.profiling.products import Products, finish
from pgrun.run.profiling.stopwatch import Path as Within
from pgrun.run.profiling.stopwatch import Stopwatch, replace_methods
from pgrun.run.profiling.trace import Trace, Traced
from pgrun.run.run import Run

WARM = 0.5  # seconds after the first update
UPDATES = 3  # of the warm-up
CLOSELY = 1.0  # seconds of iterations that are traced, and of random actions
ITERATIONS = 2  # that are traced at least
TRIES = 200  # iterations in which the next update should come


@dataclass
class Measured:
    """The measured stretch."""

    warm_up_seconds: float
    warm_up_steps: int
    seconds: float = 0.0
    steps: int = 0  # environment steps
    updates: int = 0
    iterations: int = 0  # of the loop
    hooks: float = 0.0  # seconds of the loop's hooks, evaluations apart
    parts: dict[Within, float] = field(default_factory=dict)  # seconds of each part
    calls: dict[Within, int] = field(default_factory=dict)


class ProfiledRun(Run):
    """A run of which nothing stays: it is no run that was made here, and writes checkpoints only as it goes on."""

    recorded = False
    over = False  # whether the stretch is over

    def write(self) -> None:
        """Write a checkpoint, unless all is over."""
        if not self.over:
            super().write()

    def final_evaluation(self) -> None:
        """Evaluate nothing at the end."""


class Stretch:
    """Takes a run through its warm-up, the stretch that is measured, and iterations that are looked at closely.

    Args:
        config: the run's.
        parts: the run's, whose methods are timed from here on.
        folder: for the run's files.
        begin: `time.perf_counter()` when the process began.
        names: the `algo` and `env` that were chosen.
        hydra: the `hydra` node that the config was composed with.
        steps: environment steps to measure; None: so many seconds.
        seconds: seconds to measure.
        trace: also watch the operations of some iterations.
    """

    def __init__(
        self,
        config: DictConfig,
        parts: Parts,
        folder: Path,
        *,
        begin: float,
        names: dict[str, str],
        hydra: DictConfig,
        steps: int | None,
        seconds: float,
        trace: bool,
    ) -> None:
        self.parts, self.steps, self.seconds = parts, steps, seconds
        self.run = ProfiledRun(config, parts, folder, names=names, begin=begin, quiet=True, hydra=hydra)
        self.clock, self.watch, self.device = self.run.clock, Stopwatch(), parts.algorithm.device
        self.products = Products(lambda: self.watch.path)
        self.trace = Trace(self.device) if trace else None
        self.traced: Traced | None = None
        self.alone: float | None = None  # seconds of an environment step with random actions
        self.stage: Callable[[], None] = self.warm
        self.begun, self.first, self.tries, self.compiling = time.perf_counter(), 0.0, 0, False
        self.measured: Measured | None = None
        time_parts(parts, self.run, self.watch, self.begin_iteration)

    def execute(self) -> None:
        """Run it.

        Raises:
            KeyboardInterrupt: it was interrupted.
        """
        if self.run.execute()["status"] == "interrupted":
            raise KeyboardInterrupt

    def begin_iteration(self) -> bool:
        """Do what is due before a rollout; return False to end the run instead."""
        self.stage()
        return not self.run.over

    def warm(self) -> None:
        """Wait until a few updates are made, in which memories are allocated and steps compiled."""
        if not self.clock.updates:
            return
        now = time.perf_counter()
        self.first = self.first or now
        if now - self.first < WARM or self.clock.updates < UPDATES:
            return
        self.measured = Measured(now - self.begun, self.clock.steps)
        self.watch.reset()
        self.start = self.clock.updates, self.clock.seconds["hooks"]
        self.begun = time.perf_counter()
        self.stage = self.measure

    def measure(self) -> None:
        """Wait until the stretch is over."""
        now, found = time.perf_counter(), self.measured
        assert found is not None
        found.iterations += 1
        steps = self.clock.steps - found.warm_up_steps
        if now - self.begun < self.seconds if self.steps is None else steps < self.steps:
            return
        updates, hooks = self.start
        found.seconds, found.steps, found.updates = now - self.begun, steps, self.clock.updates - updates
        found.hooks = self.clock.seconds["hooks"] - hooks
        found.parts, found.calls = dict(self.watch.seconds), dict(self.watch.calls)
        self.watch.reset()
        self.look()

    def look(self) -> None:
        """Keep the matrix products of what follows, computed without the compiler: it would hide them."""
        self.updates, self.tries = self.clock.updates, 0
        self.compiled = [step for step in self.parts.algorithm.steps().values() if step.compile]
        for step in self.compiled:
            step.compile = False
        self.products.__enter__()
        self.stage = self.count

    def count(self) -> None:
        """Wait for an update."""
        self.tries += 1
        if self.clock.updates == self.updates and self.tries < TRIES:
            return
        self.products.__exit__(None, None, None)
        self.counted = self.clock.updates - self.updates
        self.counted_calls = dict(self.watch.calls)
        for step in self.compiled:
            step.compile = True
        if self.trace is None:
            self.end()
            return
        self.tries, self.begun, self.stage = 0, time.perf_counter(), self.follow
        self.trace.begin()

    def follow(self) -> None:
        """Wait until enough iterations are traced."""
        assert self.trace is not None
        self.tries += 1
        if self.tries >= ITERATIONS and time.perf_counter() - self.begun >= CLOSELY:
            self.trace.end()
            self.traced = self.trace.result(self.tries)
            self.end()

    def end(self) -> None:
        """Step the environments alone, if the run steps any, and end it."""
        if self.measured is not None and ("collecting", "environment") in self.measured.parts:
            self.alone = alone(self.parts.collector.env)
        self.run.over, self.clock.stop = True, "pruned"


def time_parts(parts: Parts, run: Run, watch: Stopwatch, begin_iteration: Callable[[], bool]) -> None:
    """Have the parts of a run timed, and the loop go on for as long as it is asked to.

    Args:
        parts: the run's.
        run: the run.
        watch: times them.
        begin_iteration: called before each rollout; False ends the run.
    """

    def as_part(part: str) -> Callable[[Any], Any]:
        return lambda method: watch.timed(method, part)

    def collect(method: Any) -> Any:
        timed = watch.timed(method, "collecting")
        return lambda self, algorithm: timed(self, algorithm) if begin_iteration() else None

    replace_methods(parts.collector, collect=collect)
    replace_methods(parts.collector.env, step=as_part("environment"), reset=as_part("environment"))
    replace_methods(parts.algorithm, act=as_part("acting"))
    replace_methods(parts.memory, add=as_part("adding"), batches=lambda m: watch.timed_items(m, "sampling"))
    replace_methods(run.board, __call__=as_part("curves"))
    replace_methods(run.evaluation, at_work=as_part("evaluation"))
    replace_methods(run, write=as_part("checkpoints"))
    replace_methods(run.hooked, at=as_part("the config's hooks"))
    for step in parts.algorithm.steps().values():
        replace_methods(step, __call__=as_part("gradient steps"))
    device = parts.algorithm.device
    parts.update = watch.timed(parts.update, "learning", after=lambda: finish(device))
    run.clock.__class__ = type("Clock", (type(run.clock),), {"running": property(goes_on)})


def goes_on(clock: Clock) -> bool:
    """Tell whether a clock runs on, beyond total_steps too."""
    return not clock.stop


@torch.no_grad()
def alone(env: VectorEnv) -> float:
    """Return the seconds of an environment step with random actions, nothing else done."""
    draw, obs, taken = random_actions(env.action_space), env.reset(0), 0
    actions = [draw(env.num_envs) for _ in range(64)]
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < CLOSELY:
        obs = stepped(env, legal(actions[taken % len(actions)], obs)).obs
        taken += 1
    return spent / max(taken, 1) / env.num_envs
