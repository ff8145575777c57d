"""The joblib launcher: jobs in parallel processes on this machine."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import time
from typing import Any

from pgrun.config.ranges import Workers
from pgrun.sweep.launchers.base import SweepLauncher
from pgrun.sweep.launchers.worker import GRACE, Job, own_group, run_in_worker


class JoblibLauncher(SweepLauncher):
    """Runs jobs in joblib's worker processes (loky).

    Each process has an executor of its own, which is replaced if the process dies. A single pool for all jobs would
    break as a whole when one of its workers is killed.

    Args:
        n_jobs: processes at a time; -1: as many as there are cores.
    """

    def __init__(self, n_jobs: Workers) -> None:
        self.n_jobs = n_jobs
        self.executors: list[Any] = []
        self.idle: list[Any] = []
        self.waiting: list[Job] = []
        self.done: queue.Queue[tuple[Job, Any, Any]] = queue.Queue()

    def open(self, jobs: int) -> None:
        """Start the workers."""
        from joblib import effective_n_jobs

        self.parallel = max(1, min(effective_n_jobs(self.n_jobs), jobs))
        for _ in range(self.parallel):
            self.idle.append(self.start())

    def start(self) -> Any:
        """Start one worker."""
        from pgrun.compat.loky import ProcessPoolExecutor

        executor = ProcessPoolExecutor(max_workers=1, initializer=own_group)
        self.executors.append(executor)
        return executor

    def submit(self, job: Job) -> None:
        """Give the job to an idle worker, or queue it until there is one."""
        self.waiting.append(job)
        self.fill()

    def fill(self) -> None:
        """Give queued jobs to idle workers."""
        while self.waiting and self.idle:
            job, executor = self.waiting.pop(0), self.idle.pop(0)
            future = executor.submit(run_in_worker, job, self.home)
            future.add_done_callback(lambda done, job=job, executor=executor: self.done.put((job, executor, done)))

    def next(self) -> tuple[Job, dict[str, Any] | str]:
        """Wait for a worker to finish its job; replace it if it died."""
        from pgrun.compat.loky import BrokenProcessPool

        job, executor, future = self.done.get()
        result: dict[str, Any] | str
        try:
            result = future.result()
        except BrokenProcessPool as error:
            executor.shutdown(wait=False, kill_workers=True)
            self.executors.remove(executor)
            executor = self.start()
            causes = [line for line in str(error).splitlines() if "SIG" in line or "EXIT" in line]
            result = causes[0].strip() if causes else "killed"
        self.idle.append(executor)
        self.fill()
        return job, result

    def stop(self) -> None:
        """Send SIGTERM, which makes a run write its checkpoint, and wait a few seconds."""
        from pgrun.compat.loky import process_numbers

        running = len(self.executors) - len(self.idle)
        self.waiting.clear()
        for executor in self.executors:
            for pid in process_numbers(executor):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        with contextlib.suppress(queue.Empty, KeyboardInterrupt):  # a second Ctrl-C waits no longer
            for _ in range(running):
                self.done.get(timeout=max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Kill the workers."""
        for executor in self.executors:
            executor.shutdown(wait=False, kill_workers=True)
        self.executors.clear()
