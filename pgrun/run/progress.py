"""The progress of a run: a live bar on a terminal, or a line now and then in a file."""

from __future__ import annotations

import logging
import sys
import time

from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from pgrun.collect.episode_stats import EpisodeStats
from pgrun.loop.hooks import Evaluate
from pgrun.loop.train import Clock
from pgrun.run.console import duration

log = logging.getLogger("pgrun")

BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"  # fits 80 columns


class Progress:
    """A hook that shows a live bar on a terminal, and plain lines elsewhere.

    Args:
        clock: the run's.
        stats: the statistics of training's episodes.
        evaluation: the evaluations of the run.
        show: whether to show anything.
    """

    SECONDS = 10.0  # between two plain lines

    def __init__(self, clock: Clock, stats: EpisodeStats, evaluation: Evaluate, *, show: bool) -> None:
        self.stats, self.evaluation = stats, evaluation
        self.lines = show and not sys.stderr.isatty()
        self.begin, self.start, self.trained = time.perf_counter(), clock.steps, clock.train_seconds
        self.next = self.begin + 0.2
        self.bar: tqdm | None = None
        if show and not self.lines:
            self.bar = tqdm(
                total=clock.total_steps,
                initial=min(clock.steps, clock.total_steps),
                unit_scale=True,
                dynamic_ncols=True,
                bar_format=BAR,
            )
            self.redirected = logging_redirect_tqdm()  # lines of the log go above the bar
            self.redirected.__enter__()

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Update the bar, or log a line, if it is due."""
        now = time.perf_counter()
        if now < self.next:
            return
        if self.bar is not None:
            self.next = now + 0.2
            self.move(clock)
        elif self.lines:
            self.next = now + self.SECONDS
            rate = (clock.steps - self.start) / (now - self.begin)
            left = max(clock.total_steps - clock.steps, 0) / max(rate, 1e-9)
            share = 100 * clock.progress
            log.info(
                "%s steps (%.0f%%), %s, %s left",
                f"{clock.steps:,}",
                share,
                self.figures(clock, "steps/s"),
                duration(left),
            )

    def move(self, clock: Clock) -> None:
        """Move the bar to the clock's step, but not beyond the total, which the last rollout may exceed."""
        assert self.bar is not None
        self.bar.set_postfix_str(self.figures(clock), refresh=False)
        self.bar.update(min(clock.steps, clock.total_steps) - self.bar.n)

    def figures(self, clock: Clock, unit: str = "step/s") -> str:
        """Format the speed of training, and the returns of training and of evaluation."""
        recent, seconds = self.stats.recent, clock.train_seconds - self.trained
        speed = f"{(clock.steps - self.start) / seconds:,.0f} {unit}, " if seconds > 0 else ""
        text = f"{speed}return {sum(recent) / len(recent):.1f}" if recent else f"{speed}return –"
        return text if self.evaluation.latest is None else f"{text}, eval {self.evaluation.latest:.1f}"

    def close(self, clock: Clock) -> None:
        """Draw the bar a last time, and leave it on the terminal."""
        if self.bar is not None:
            self.move(clock)
            self.bar.close()
            self.redirected.__exit__(None, None, None)
            self.bar = None
