"""The basic launcher: one job after the other."""

from __future__ import annotations

from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import configure_log

from pgrun.sweep.launchers.base import SweepLauncher
from pgrun.sweep.launchers.worker import Job, run_in_folder


class BasicLauncher(SweepLauncher):
    """Runs one job after the other in this process."""

    def open(self, jobs: int) -> None:
        """Begin with an empty queue."""
        self.waiting: list[Job] = []

    def submit(self, job: Job) -> None:
        """Append the job to the queue."""
        self.waiting.append(job)

    def next(self) -> tuple[Job, dict[str, Any]]:
        """Run the first job of the queue."""
        job = self.waiting.pop(0)
        state = Singleton.get_state()
        try:
            result = run_in_folder(job, self.hydra_context, answers=self.session.here())
        finally:
            Singleton.set_state(state)
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        if result["status"] == "interrupted":
            raise KeyboardInterrupt
        return job, result
