"""The base of all launchers: it composes jobs, skips those that are over, and reports each as it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from pgrun.errors import UserError
from pgrun.run.console import patience, remark, shown, tell
from pgrun.sweep.folder import OVER, enlist, failed, found, goes_on, jobs_of, objective
from pgrun.sweep.launchers.compose import Composer
from pgrun.sweep.launchers.progress import SweepProgress
from pgrun.sweep.launchers.worker import Job, SweepProcess
from pgrun.sweep.session import SweepSession


class SweepLauncher(Launcher):
    """Runs the jobs of a sweep. A job that fails or dies doesn't affect the others.

    A launcher defines how jobs are started and waited for: `open`, `submit`, `next`, `stop` and `close`. A sweeper may
    also call these one by one, when later jobs depend on the results of earlier ones.
    """

    parallel = 1  # how many jobs run at a time; `open` sets it

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Receive the config and the task from Hydra, which calls this before `launch`."""
        self.config, self.hydra_context = config, hydra_context
        self.folder = Path(str(config.hydra.sweep.dir)).resolve()
        self.session: SweepSession = getattr(task_function, "session", None) or SweepSession(self.folder)
        self.known = jobs_of(self.folder)  # the jobs of earlier sessions
        self.compose = Composer(hydra_context.config_loader, config)
        self.progress: SweepProgress | None = None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run one job for each list of overrides.

        Args:
            job_overrides: the overrides of each job.
            initial_job_idx: the number of the first job.

        Returns:
            The jobs' results, in the same order.
        """
        with patience(len(job_overrides), "composing"):
            jobs = [self.job(number, overrides) for number, overrides in enumerate(job_overrides, initial_job_idx)]
        self.check_folders(jobs)
        self.enlist(self.place(job) for job in jobs)
        results: dict[int, dict[str, Any]] = {}
        for job in jobs:
            if (over := self.over(job)) is not None:
                results[job.number] = over
        left = [job for job in jobs if job.number not in results]
        total = len(jobs)
        with self.at_work(len(left)):
            self.count(total, len(results))
            self.announce(f"{len(left)} of {total} jobs to do" if results else f"{total} jobs")
            for job in left:
                self.submit(job)
            for _ in left:
                job, result = self.next_result()
                results[job.number] = result
        return [self.job_return(job, results[job.number]) for job in jobs]

    def check_folders(self, jobs: Sequence[Job]) -> None:
        """Raise UserError if several jobs have the same folder."""
        if len({job.folder for job in jobs}) < len(jobs):
            subdir = OmegaConf.to_container(self.config.hydra.sweep)["subdir"]  # type: ignore[index,call-overload]
            raise UserError(f"hydra.sweep.subdir={subdir} is one folder for several jobs: name all that is swept in it")

    def count(self, total: int, over: int) -> None:
        """Begin to count the jobs that end.

        Args:
            total: all jobs.
            over: how many of them were over before.
        """
        self.progress = SweepProgress(total, over, self.parallel)

    def count_one(self) -> str:
        """Count a job that is over, and return the sweep's progress in words."""
        return "" if self.progress is None else self.progress.count()

    def job(self, number: int, overrides: Sequence[str], trial: Any = None) -> Job:
        """Compose a job.

        Args:
            number: the job's.
            overrides: the job's.
            trial: the trial of a sampler that the job belongs to, if any.

        Raises:
            UserError: the job's folder was made by another config or command, or can't be made.
        """
        config = self.compose(overrides)
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{number}"
            config.hydra.job.num = number
            name = str(config.hydra.sweep.subdir)
            config.hydra.sweep.dir, config.hydra.sweep.subdir = str(self.folder), name
        folder = self.folder / name
        place = os.path.relpath(folder, self.folder)
        if place == ".":
            raise UserError(f"hydra.sweep.subdir={name} is the sweep's own folder: give each of its jobs one")
        note = goes_on(folder, config, own=self.known is None or place in self.known)
        return Job(number, list(overrides), config, folder, note, trial)

    def enlist(self, places: Iterable[str]) -> None:
        """Add these folders to the list of the sweep's jobs, before anything is written into them."""
        enlist(self.folder, places)

    def over(self, job: Job) -> dict[str, Any] | None:
        """Return the result of a job that was over before this session; None for any other."""
        result = found(job.folder)
        if result["status"] not in OVER:
            return None
        self.session.over_before.add(self.place(job))
        return result

    def place(self, job: Job) -> str:
        """Return a job's folder relative to the sweep's."""
        return os.path.relpath(job.folder, self.folder)

    def announce(self, what: str) -> None:
        """Print what is about to run, and where."""
        at_once = f", {self.parallel} at a time" if self.parallel > 1 else ""
        print(f"{what}{at_once}, in {shown(self.folder)}", file=sys.stderr, flush=True)

    @contextmanager
    def at_work(self, jobs: int) -> Iterator[None]:
        """Be ready to run so many jobs in the block; jobs that still run at its end are ended too."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        token = self.session.lock.token if self.session.held else ""
        self.home = SweepProcess.here(self.folder / ".lock", token, self.hydra_context)
        if not jobs:
            yield
            return
        try:
            self.open(jobs)
            yield
        except KeyboardInterrupt:
            if type(self).stop is not SweepLauncher.stop:
                remark("stopping: what runs writes its checkpoints; Ctrl-C again ends it at once")
            self.stop()
            raise
        finally:
            self.close()
            if self.progress is not None:
                self.progress.stop()

    def next_result(self) -> tuple[Job, dict[str, Any]]:
        """Wait for a job to end, and report its result."""
        job, result = self.next()
        if isinstance(result, str):
            result = failed(job.folder, f"the job's process died: {result}")
        tell(job.folder, result, self.count_one(), job.note)
        return job, result

    def job_return(self, job: Job, result: dict[str, Any]) -> JobReturn:
        """Convert a job's result to what Hydra's sweepers take."""
        done = JobReturn(overrides=job.overrides, cfg=job.config, status=JobStatus.COMPLETED)
        done.return_value = objective(result)
        done.working_dir = str(job.folder)
        return done

    def open(self, jobs: int) -> None:
        """Get ready for so many jobs, and set `parallel`."""

    def submit(self, job: Job) -> None:
        """Start a job as soon as there is room."""
        raise NotImplementedError

    def next(self) -> tuple[Job, dict[str, Any] | str]:
        """Wait until a job ends.

        Returns:
            The job, and its result or a text on how its process died.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Ask running jobs to write their checkpoints and end, and give them a few seconds for it."""

    def close(self) -> None:
        """End every process, whatever it is doing."""
