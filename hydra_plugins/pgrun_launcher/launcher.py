"""Jobs in parallel processes, of which each may die without taking the others along."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

log = logging.getLogger(__name__)


class SurvivingJoblibLauncher(Launcher):
    """joblib's threads, each with a worker process of its own that is replaced when it dies.

    hydra-joblib-launcher hands all jobs to one pool, which breaks as a whole when a worker is killed; its function
    that runs a job is used here as it is.
    """

    def __init__(self, n_jobs: int, verbose: int) -> None:
        self.n_jobs, self.verbose = n_jobs, verbose
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self.config, self.task_function, self.hydra_context = config, task_function, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run one job for each list of overrides; -> their returns in order."""
        from joblib import Parallel, delayed, effective_n_jobs

        setup_globals()
        assert self.config is not None
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        jobs = list(enumerate(job_overrides, initial_job_idx))
        workers = max(1, min(effective_n_jobs(self.n_jobs), len(jobs)))
        log.info("%d jobs, %d at a time, in %s", len(jobs), workers, folder)
        for number, overrides in jobs:
            log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
        state = Singleton.get_state()
        pool = Workers(workers)
        try:
            return Parallel(n_jobs=workers, backend="threading", verbose=self.verbose)(
                delayed(self._job)(pool, folder, number, overrides, state) for number, overrides in jobs
            )
        finally:
            pool.close()

    def _job(self, pool: Workers, folder: Path, number: int, overrides: Sequence[str], state: Any) -> JobReturn:
        from hydra_plugins.hydra_joblib_launcher._core import execute_job

        arguments = (number, overrides, self.hydra_context, self.config, self.task_function, state)
        try:
            return pool.run(run_job_in_worker, execute_job, arguments)
        except WorkerDied as death:
            from pgrun.app import WORST, report

            found = sorted(folder.glob(f"{number}_*"))
            report(found[0] if found else folder / f"{number}_", True, f"the job's process died: {death}", 1)
            lost = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            lost.return_value = WORST
            return lost


class WorkerDied(Exception):
    """A worker process ended before its job did."""


class Workers:
    """As many single-process executors as jobs run at a time."""

    def __init__(self, n: int) -> None:
        self.free: queue.Queue[Any] = queue.Queue()
        self.all: list[Any] = []
        for _ in range(n):
            self.free.put(self._start())

    def _start(self) -> Any:
        from joblib.externals.loky import ProcessPoolExecutor

        executor = ProcessPoolExecutor(max_workers=1)
        self.all.append(executor)
        return executor

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function in a free worker; WorkerDied where the worker dies in it."""
        from joblib.externals.loky.process_executor import BrokenProcessPool

        executor = self.free.get()
        try:
            return executor.submit(function, *args).result()
        except BrokenProcessPool as error:
            executor.shutdown(wait=False, kill_workers=True)
            executor = self._start()
            words = [line for line in str(error).splitlines() if "SIG" in line or "EXIT" in line]
            raise WorkerDied(words[0].strip() if words else "killed") from None
        finally:
            self.free.put(executor)

    def close(self) -> None:
        """End every worker, whatever it is at."""
        for executor in self.all:
            executor.shutdown(wait=False, kill_workers=True)


def run_job_in_worker(execute_job: Callable[..., JobReturn], arguments: tuple[Any, ...]) -> JobReturn:
    """What a worker process runs."""
    from pgrun.app import register_resolvers

    register_resolvers()
    return execute_job(*arguments)
