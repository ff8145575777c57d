"""Progress of a sweep: a count beside each job that ends, and a line where nothing was said for a while."""

from __future__ import annotations

import threading
import time


class SweepProgress:
    """The count of a sweep's jobs, and the time that is left by those that ended in this session.

    Args:
        total: all jobs of the sweep.
        over: those that were over before.
        parallel: how many run at a time.
    """

    QUIET = 60.0  # seconds without a job's end, after which a line says how far it is

    def __init__(self, total: int, over: int, parallel: int) -> None:
        self.total, self.over, self.ended, self.parallel = total, over, over, parallel
        self.begin = self.said = time.monotonic()
        self.done = threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()

    def count(self) -> str:
        """Count a job's end; -> what stands before its line: [3/8, 12 min left]."""
        self.ended += 1
        self.said = time.monotonic()
        return f"[{self.ended}/{self.total}{self.left()}]"

    def left(self) -> str:
        """Say how long the rest takes, as far as that can be known; "" where it can't, or there is none."""
        from pgrun.run.console import duration

        done, rest = self.ended - self.over, self.total - self.ended
        if not done or rest <= 0:
            return ""
        running = min(self.parallel, rest)
        begun = (running - 1) / 2  # one has just begun; of the others the half is done, taken together
        seconds = (time.monotonic() - self.begin) * (rest - begun) / (done + begun)
        return f", about {duration(seconds)} left"

    def line(self) -> str:
        """Say how far the sweep is."""
        running = min(self.parallel, self.total - self.ended)
        return f"{self.ended} of {self.total} jobs done, {running} running{self.left()}"

    def watch(self) -> None:
        """Say how far the sweep is whenever nothing was said for a while."""
        from pgrun.run.console import remark

        while not self.done.wait(max(self.said + self.QUIET - time.monotonic(), 0.1)):
            if time.monotonic() - self.said >= self.QUIET:
                self.said = time.monotonic()
                remark(self.line())

    def stop(self) -> None:
        """Say nothing more."""
        self.done.set()
