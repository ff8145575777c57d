"""The Ray launcher: jobs as Ray tasks, on this machine or spread over a cluster's nodes."""

from __future__ import annotations

import math
import time
from typing import Annotated, Any

from pgrun.config.ranges import Count, NotNegative, Range
from pgrun.sweep.launchers.base import SweepLauncher
from pgrun.sweep.launchers.worker import GRACE, Job, run_in_worker


class RayLauncher(SweepLauncher):
    """Runs each job as a Ray task, spread over nodes.

    The jobs write into the sweep's folder, which all nodes have to share.

    Args:
        address: host:port of a cluster's head, or auto; null: Ray on this machine, for as long as the sweep takes.
        n_jobs: jobs at a time; null: as many as there are CPUs for.
        cpus_per_job: cores that Ray sets apart for a job.
        gpus_per_job: GPUs for a job; may be a fraction.
        retries: how often a job whose worker or node died goes on elsewhere, from its checkpoint.
    """

    def __init__(
        self,
        address: str | None,
        n_jobs: Count | None,
        cpus_per_job: NotNegative,
        gpus_per_job: NotNegative,
        retries: Annotated[int, Range(-1)],
    ) -> None:
        self.address, self.n_jobs, self.retries = address, n_jobs, retries
        self.cpus_per_job, self.gpus_per_job = cpus_per_job, gpus_per_job
        self.waiting: list[Job] = []
        self.running: dict[Any, Job] = {}

    def open(self, jobs: int) -> None:
        """Start Ray, or connect to a cluster."""
        import ray

        from pgrun.parallel.ray.connection import connect

        cpus = None if self.n_jobs is None else max(1, math.ceil(self.n_jobs * self.cpus_per_job))
        connect(self.address, cpus, "hydra.launcher.address")
        self.check_room([node["Resources"] for node in ray.nodes() if node["Alive"]])
        room = int(ray.cluster_resources().get("CPU", 1) / max(self.cpus_per_job, 1e-3))
        self.parallel = max(1, min(self.n_jobs or room, jobs))
        self.task = ray.remote(run_in_worker)
        self.options = {
            "num_cpus": self.cpus_per_job,
            "num_gpus": self.gpus_per_job,
            "max_retries": self.retries,  # when a worker or node has died; the job goes on from its checkpoint
            "scheduling_strategy": "SPREAD",
        }

    def check_room(self, nodes: list[dict[str, float]]) -> None:
        """Raise UserError if no node has the CPUs and GPUs of a job; Ray would wait for one silently."""
        from pgrun.errors import UserError

        if not any(n.get("CPU", 0) >= self.cpus_per_job and n.get("GPU", 0) >= self.gpus_per_job for n in nodes):
            there = " or ".join(sorted({f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes}))
            asked = f"hydra.launcher.cpus_per_job={self.cpus_per_job} gpus_per_job={self.gpus_per_job}"
            raise UserError(f"{asked}: no node of Ray's has as many, they have {there}")

    def submit(self, job: Job) -> None:
        """Hand the job to Ray, which starts it when there is room."""
        self.waiting.append(job)
        self.fill()

    def fill(self) -> None:
        """Hand over as many jobs to Ray as may run at a time."""
        while self.waiting and (self.n_jobs is None or len(self.running) < self.parallel):
            job = self.waiting.pop(0)
            task = self.task.options(name=f"pgrun {job.folder.name}"[:80], **self.options)
            self.running[task.remote(job, self.home)] = job

    def next(self) -> tuple[Job, dict[str, Any] | str]:
        """Wait for any job to end."""
        import ray

        ready: list[Any] = []
        while not ready:
            ready, _ = ray.wait(list(self.running), num_returns=1, timeout=1.0)
        job = self.running.pop(ready[0])
        result: dict[str, Any] | str
        try:
            result = ray.get(ready[0])
        except ray.exceptions.RayError as error:
            result = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        self.fill()
        return job, result

    def stop(self) -> None:
        """Cancel the jobs by SIGINT, so that runs write their checkpoints; wait for that, GRACE seconds at most."""
        import ray

        self.waiting.clear()
        deadline = time.monotonic() + GRACE
        try:
            while self.running and time.monotonic() < deadline:
                for reference in self.running:
                    ray.cancel(reference, force=False)  # again and again: on a busy machine one may not arrive
                ready, _ = ray.wait(list(self.running), num_returns=len(self.running), timeout=2.0)
                for reference in ready:
                    self.running.pop(reference)
        except KeyboardInterrupt:  # a second Ctrl-C waits no longer
            return

    def close(self) -> None:
        """Leave the cluster, or end the one of this sweep; jobs that still run are ended."""
        import ray

        from pgrun.parallel.ray.connection import disconnect

        if ray.is_initialized():
            for reference in self.running:
                ray.cancel(reference, force=True)
            disconnect()
