"""The Slurm launcher: jobs through submitit, on a Slurm cluster or on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pgrun.config.ranges import Count, CountOrZero, NotNegative
from pgrun.sweep.launchers.base import SweepLauncher
from pgrun.sweep.launchers.worker import GRACE, Job, SweepProcess, own_group, run_in_worker


class SlurmLauncher(SweepLauncher):
    """Runs each job as a submitit job; one that runs out of time or is preempted goes on from its checkpoint.

    Args:
        cluster: slurm, or local: processes on this machine.
        n_jobs: jobs at a time.
        poll_seconds: between two looks at whether a job is done.
        max_num_timeout: how often a job that ran out of time is queued again, to go on from its checkpoint.
        timeout_min: minutes that a job may take.
        cpus_per_task: cores of a job.
        gpus_per_node: GPUs of a job.
        mem_gb: gigabytes of memory of a job.
        partition, account, qos, constraint, exclude: as sbatch's.
        setup: shell commands before a job: [module load cuda].
        additional_parameters: any other of sbatch's: {mail-user: me@example.com}.
    """

    def __init__(
        self,
        cluster: Literal["slurm", "local"],
        n_jobs: Count,
        poll_seconds: NotNegative,
        max_num_timeout: CountOrZero,
        additional_parameters: dict[str, Any],
        timeout_min: Count | None = None,
        cpus_per_task: Count | None = None,
        gpus_per_node: CountOrZero | None = None,
        mem_gb: NotNegative | None = None,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        exclude: str | None = None,
        setup: list[str] | None = None,
        **parameters: Any,
    ) -> None:
        self.cluster, self.n_jobs, self.poll_seconds = cluster, n_jobs, poll_seconds
        self.max_num_timeout, self.additional = max_num_timeout, additional_parameters
        asked: dict[str, Any] = {
            "timeout_min": timeout_min,
            "cpus_per_task": cpus_per_task,
            "gpus_per_node": gpus_per_node,
        }
        asked |= {"mem_gb": mem_gb, "partition": partition, "account": account, "qos": qos}
        self.parameters = {**asked, "constraint": constraint, "exclude": exclude, "setup": setup, **parameters}
        self.waiting: list[Job] = []
        self.running: dict[Any, Job] = {}

    def open(self, jobs: int) -> None:
        """Make submitit's executor."""
        import submitit

        from pgrun.errors import UserError

        logging.getLogger("submitit").setLevel(logging.WARNING)
        self.parallel = max(1, min(self.n_jobs, jobs))
        # only Slurm's executor takes this option
        options = {"slurm_max_num_timeout": self.max_num_timeout} if self.cluster == "slurm" else {}
        try:
            self.executor = submitit.AutoExecutor(self.folder / ".submitit" / "%j", cluster=self.cluster, **options)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"hydra.launcher.cluster={self.cluster}: {error}") from error
        general = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "nodes", "stderr_to_stdout")
        given = {key: value for key, value in self.parameters.items() if value is not None}
        asked = {key if key in general else f"slurm_{key}": value for key, value in given.items()}
        asked |= {"name": "pgrun", "slurm_array_parallelism": self.n_jobs}
        if self.additional:
            asked["slurm_additional_parameters"] = dict(self.additional)
        try:
            self.executor.update_parameters(**asked)
        except (NameError, TypeError, ValueError) as error:
            raise UserError(f"hydra.launcher: {str(error).splitlines()[0]}") from error

    def submit(self, job: Job) -> None:
        """Queue the job; `next` submits it."""
        self.waiting.append(job)

    def fill(self) -> None:
        """Submit as many jobs as may run at a time; to Slurm all at once, as an array with that limit."""
        room = len(self.waiting) if self.cluster == "slurm" else self.parallel - len(self.running)
        jobs, self.waiting = self.waiting[:room], self.waiting[room:]
        if not jobs:
            return
        calls = [Resumable(job, self.home) for job in jobs]
        with ignored(signal.SIGINT):  # inherited by the jobs: Ctrl-C is for this process alone
            if self.cluster == "slurm":
                with self.executor.batch():
                    started = [self.executor.submit(call) for call in calls]
            else:
                started = [self.executor.submit(call) for call in calls]
        self.running.update(zip(started, jobs, strict=True))

    def next(self) -> tuple[Job, dict[str, Any] | str]:
        """Submit queued jobs, and poll until one is done."""
        import submitit

        while True:
            self.fill()
            for submitted in list(self.running):
                if submitted.done():
                    job = self.running.pop(submitted)
                    try:
                        return job, submitted.result()
                    except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
                        return job, cause(submitted, error)
            time.sleep(self.poll_seconds)

    def stop(self) -> None:
        """End the running jobs by SIGTERM, which makes a run write its checkpoint.

        Slurm sends SIGTERM when a job is cancelled.
        """
        self.waiting.clear()
        self.end()
        deadline = time.monotonic() + GRACE
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C waits no longer
            while time.monotonic() < deadline and not all(job.done(force_check=True) for job in self.running):
                time.sleep(0.2)

    def end(self) -> None:
        """Cancel the running jobs."""
        for submitted in self.running:
            if self.cluster == "local":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(submitted.job_id), signal.SIGTERM)  # its controller, which passes it on
            elif self.cluster == "slurm":
                submitted.cancel(check=False)

    def close(self) -> None:
        """Cancel the jobs that still run; local ones also end by themselves when the sweep's lock is gone."""
        if self.running:
            self.end()
        self.running.clear()


class Resumable:
    """A job that submitit can start again after a time limit or a preemption."""

    def __init__(self, job: Job, home: SweepProcess) -> None:
        self.job, self.home = job, home
        self.requeued: list[bool] = []  # not empty in the process that is about to end

    def __call__(self) -> dict[str, Any]:
        """Run the job."""
        if os.getpid() != self.home.pid:
            own_group()
        return run_in_worker(self.job, self.home, lambda: bool(self.requeued))

    def checkpoint(self) -> Any:
        """Return the submission that replaces this one: the same job, which goes on from its checkpoint."""
        import submitit

        self.requeued.append(True)
        return submitit.helpers.DelayedSubmission(Resumable(self.job, self.home))


def cause(submitted: Any, error: Exception) -> str:
    """Describe why a submitted job has no result, with the last lines that it printed."""
    printed: Sequence[str] = []
    with contextlib.suppress(OSError):
        printed = Path(submitted.paths.stderr).read_text(encoding="utf-8").strip().splitlines()[-3:]
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return "; ".join([first, *(line.strip() for line in printed)])


@contextlib.contextmanager
def ignored(number: signal.Signals) -> Any:
    """Ignore a signal in the block, and in every process that is started there."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)
