"""The Ray side of a run: the chief and the workers as Ray actors, and the connection to the cluster."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from pgrun.errors import Lost
from pgrun.loop.train import Clock
from pgrun.parallel.ray.chief import Chief
from pgrun.parallel.ray.connection import connect, disconnect
from pgrun.trust.finder import allow, state

log = logging.getLogger("pgrun")
START = 120.0  # seconds that the leader waits for the workers at the start; later ones may still join
PATIENCE = 3.0  # seconds that the leader waits at the end for workers to finish their update


class ChiefClient:
    """A worker's connection to the chief."""

    def __init__(self, chief: Any, rank: int) -> None:
        self.chief, self.rank = chief, rank

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the chief and wait for the answer.

        Raises:
            Lost: the chief has died.
        """
        import ray
        from ray.exceptions import RayActorError

        try:
            return ray.get(getattr(self.chief, method).remote(*args))
        except RayActorError as error:
            raise Lost("the chief, which holds what is learned, has died") from error


class RayChief(Chief):
    """The chief as a Ray actor, which also learns how each worker ended."""

    async def employ(self, rank: int, work: list[Any]) -> None:
        """Wait until a worker ends, and note why. `work` holds the reference to the worker's task."""
        from ray.exceptions import RayError

        try:
            why = await work[0]
        except RayError as error:
            why = f"its process died: {str(error).splitlines()[0]}"
        await self.leave(rank, why)


class RayWorker:
    """A worker as a Ray actor."""

    def __init__(self, paths: list[str], folder: str, code: tuple[list[str], list[str]]) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        allow(code[1], code[0])
        with suppress(OSError):  # another machine may not have this folder
            os.chdir(folder)

    def work(self, settings: dict[str, Any], rank: int, chief: Any) -> str:
        """Run the worker's loop until the run is over.

        Returns:
            The error that ended the worker; empty if there was none.
        """
        from pgrun.parallel.workers import learn_along

        try:
            learn_along(settings, rank, chief)
        except Lost:
            return ""  # the leader reports it
        except Exception as error:
            return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return ""


class RayActors:
    """The chief and all workers but the leader, as Ray actors. None outlives the block.

    Args:
        chief: the arguments of `Chief`.
        settings: the config from which the workers build their parts.
        workers: how many, not counting the leader.
        cpus: CPUs that Ray reserves for each worker.
    """

    def __init__(self, chief: dict[str, Any], settings: dict[str, Any], *, workers: int, cpus: float) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray: Any = ray
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = self.ray.remote(RayChief).options(num_cpus=0, scheduling_strategy=here)
        self.chief = actor.remote(**chief)
        self.line = ChiefClient(self.chief, 0)
        actor = self.ray.remote(RayWorker).options(num_cpus=cpus, scheduling_strategy="SPREAD", max_restarts=0)
        self.workers = {rank: actor.remote(sys.path, os.getcwd(), state()) for rank in range(1, workers + 1)}
        self.works = {rank: worker.work.remote(settings, rank, self.chief) for rank, worker in self.workers.items()}
        for rank, work in self.works.items():
            self.chief.employ.remote(rank, [work])
        self.told: set[int] = set()  # ranks whose end was logged
        self.dropped = 0  # dropped gradients that were logged
        self.tenth: int | None = None  # the tenth of the run at the last look

    def __enter__(self) -> RayActors:
        return self

    def gather(self, clock: Clock) -> None:
        """Wait until the workers are there, then let them begin."""
        ranks, deadline = list(self.workers), time.monotonic() + START
        while not (there := self.line.call("gather", ranks, 1.0)) and clock.running and time.monotonic() < deadline:
            pass
        self.line.call("start")
        status = self.line.call("status")
        if not there and clock.running:
            late = [rank for rank in ranks if rank not in status["alive"] and rank not in status["ended"]]
            log.warning(
                "worker %s not there after %d seconds: going on without, until they come (Ray has %g CPUs)",
                ", ".join(map(str, late)),
                START,
                self.ray.cluster_resources().get("CPU", 0),
            )
        self.report(status)

    def watch(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Warn of workers that have ended, and report dropped gradients at each tenth of the run.

        This is a hook of the loop; it also adds the metrics parallel/alive and parallel/dropped.
        """
        status = self.line.call("status")
        self.report(status)
        if metrics:
            metrics["parallel/alive"] = torch.tensor(float(len(status["alive"])))
            metrics["parallel/dropped"] = torch.tensor(float(sum(status["dropped"].values())))
        tenth = int(10.0 * clock.progress)
        if self.tenth is not None and tenth > self.tenth and clock.running:
            self.tell_dropped(status)
        self.tenth = tenth

    def tell(self, clock: Clock) -> None:
        """Report the dropped gradients at the end of the run."""
        with suppress(Lost):
            status = self.line.call("status")
            if not clock.running:
                self.tell_dropped(status)

    def report(self, status: dict[str, Any]) -> None:
        """Warn, once for each, of workers that have ended too early."""
        for rank, why in status["ended"].items():
            if rank not in self.told and why:
                log.warning("worker %d ended (%s); going on with %d", rank, why, len(status["alive"]))
            self.told.add(rank)

    def tell_dropped(self, status: dict[str, Any]) -> None:
        """Log how many gradients were dropped, if there are new ones."""
        dropped = {rank: n for rank, n in sorted(status["dropped"].items()) if n}
        if sum(dropped.values()) > self.dropped:
            self.dropped = sum(dropped.values())
            by_worker = ", ".join(f"worker {rank} {n}" for rank, n in dropped.items())
            log.info("dropped %d of %d gradients: %s", self.dropped, sum(status["received"].values()), by_worker)

    def __exit__(self, kind: Any, *_: Any) -> None:
        with suppress(self.ray.exceptions.RayError):
            self.chief.end.remote()
            if works := list(self.works.values()):
                self.ray.wait(works, num_returns=len(works), timeout=PATIENCE if kind is None else 1.0)
        for actor in (*self.workers.values(), self.chief):
            self.ray.kill(actor)


@contextmanager
def cluster(address: str | None, workers: int, cpus: float) -> Iterator[None]:
    """Connect to Ray for the block, unless this process is connected already.

    Without an address, Ray is started for this run alone and ends with the block.
    """
    import ray

    if ray.is_initialized():  # this run is itself a Ray task of a sweep
        yield
        return
    connect(address, max(math.ceil(workers * cpus), 1), "parallel.address")
    try:
        yield
    finally:
        disconnect()
