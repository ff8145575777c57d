"""The progress of a sweep: a count beside each job that ends, and a line when nothing has ended for a while."""

from __future__ import annotations

import threading
import time


class SweepProgress:
    """Counts a sweep's jobs, and estimates the time left from the jobs that ended in this session.

    Args:
        total: all jobs of the sweep.
        over: those that were over before.
        parallel: how many run at a time.
    """

    QUIET = 60.0  # seconds without a line before one says how far the sweep is

    def __init__(self, total: int, over: int, parallel: int) -> None:
        self.total, self.over, self.ended, self.parallel = total, over, over, parallel
        self.begin = self.said = time.monotonic()
        self.done = threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()

    def count(self) -> str:
        """Count a job that has ended, and return the progress to print before its line: [3/8, 12 min left]."""
        self.ended += 1
        self.said = time.monotonic()
        return f"[{self.ended}/{self.total}{self.left()}]"

    def left(self) -> str:
        """Describe the time left; empty if it can't be known yet or nothing is left."""
        from pgrun.run.console import duration

        done, rest = self.ended - self.over, self.total - self.ended
        if not done or rest <= 0:
            return ""
        running = min(self.parallel, rest)
        begun = (running - 1) / 2  # one job has just begun, the others are half done on average
        seconds = (time.monotonic() - self.begin) * (rest - begun) / (done + begun)
        return f", about {duration(seconds)} left"

    def line(self) -> str:
        """Describe how far the sweep is."""
        running = min(self.parallel, self.total - self.ended)
        return f"{self.ended} of {self.total} jobs done, {running} running{self.left()}"

    def watch(self) -> None:
        """Print how far the sweep is whenever no job has ended for a while."""
        from pgrun.run.console import remark

        while not self.done.wait(max(self.said + self.QUIET - time.monotonic(), 0.1)):
            if time.monotonic() - self.said >= self.QUIET:
                self.said = time.monotonic()
                remark(self.line())

    def stop(self) -> None:
        """Print nothing more."""
        self.done.set()
