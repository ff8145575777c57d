"""Workers on Ray that send their gradients to a chief: on this machine, or on a cluster."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from pgrun.algos.base import Algorithm
from pgrun.errors import Lost, UserError
from pgrun.nn.normalize import RunningNorm
from pgrun.optim import GradientStep, Optimizer
from pgrun.parallel.chief import Chief, Count, Held
from pgrun.parallel.team import Team, check_gradient_steps, own
from pgrun.train import Clock, Hook
from pgrun.types import Transition

log = logging.getLogger("pgrun")
START = 120.0  # seconds that the leader waits for the others to be there; who comes later joins in
PATIENCE = 10.0  # seconds that it waits, at the end, for a worker to finish the update it is in
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class OnRay(Team):
    """W workers, each with environments of its own, that send every gradient to a chief, which steps when D are there.

    The leader is worker 0, in this process; the others and the chief are Ray actors.

    Args:
        workers: W.
        wait_for: D; None: W.
        address: of a running Ray cluster, or "auto" for this machine's; None: Ray is started here, for this run.
        cpus: that Ray sets apart for each worker but the leader.
    """

    def __init__(self, *, workers: int, wait_for: int | None, address: str | None, cpus: float, rank: int = 0) -> None:
        super().__init__(workers=workers, rank=rank)
        if wait_for is not None and wait_for > workers:
            raise UserError(
                f"parallel.wait_for={wait_for} gradients never come from workers={workers}: use at most as many"
            )
        if importlib.util.find_spec("ray") is None:
            raise UserError("parallel=ray needs a package that is not installed: pip install 'pgrun[ray]'")
        self.wait_for, self.address, self.cpus = wait_for or workers, address, cpus
        self.line: Line | None = None

    def clock(self, total_steps: int) -> ChiefClock:
        return ChiefClock(total_steps)

    def check(self, algorithm: Algorithm) -> None:
        """Raise UserError where the chief can't take every step."""
        if algorithm.device.type != "cpu":
            raise UserError("parallel=ray learns on CPUs: use device=cpu")
        for step in algorithm.steps().values():
            if isinstance(step.optimizer, Optimizer) and not step.optimizer.shareable:
                name = type(step.optimizer).__name__
                raise UserError(
                    f"parallel=ray steps from gradients alone, and {name} asks for more: "
                    "use optimizer=adam, adamw, rmsprop or sgd"
                )
        check_gradient_steps(algorithm, "ray")

    @contextmanager
    def at_work(self, algorithm: Algorithm, settings: dict[str, Any], clock: Clock) -> Iterator[Sequence[Hook]]:
        assert isinstance(clock, ChiefClock)
        if self.rank:
            with tied(algorithm, Line(self.shared, self.rank), clock):
                yield ()
            return
        with cluster(self.address, self.workers, self.cpus):
            crew = Crew(self, algorithm, settings, clock)
            with crew, tied(algorithm, crew.line, clock):
                self.line = crew.line
                crew.gather()
                try:
                    yield (crew.watch,)
                    self.gather(algorithm)
                finally:
                    self.line = None
                    crew.tell(clock)

    def gather(self, algorithm: Algorithm) -> None:
        if self.line is None:
            return
        for name, (theta, state) in self.line.call("state").items():
            step = algorithm.steps()[name]
            step.theta.copy_(theta)
            step.optimizer.load_state_dict(state)


class Line:
    """A worker's line to the chief."""

    def __init__(self, chief: Any, rank: int) -> None:
        self.chief, self.rank = chief, rank

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the chief, and wait for its answer.

        Raises:
            Lost: the chief has died.
        """
        import ray

        try:
            return ray.get(getattr(self.chief, method).remote(*args))
        except ray.exceptions.RayActorError as error:
            raise Lost("the chief, which holds what is learned, has died") from error


class ChiefClock(Clock):
    """A clock whose steps and updates are those of all workers together, as the chief counts them."""

    line: Line
    over = False  # whether the leader has ended the run

    def take(self, count: Count) -> None:
        """Show what the chief has counted."""
        self.steps, self.updates, self.over = count

    @property
    def running(self) -> bool:
        return super().running and not self.over

    def advance(self, rollout: Transition) -> None:
        self.take(self.line.call("advance", int(rollout.valid.sum()), 0))

    def count_update(self) -> None:
        self.take(self.line.call("advance", 0, 1))


class ToChief:
    """The chief takes the step: the gradient goes there, the parameters come back.

    Args:
        name: the gradient step's.
        norms: the running normalisers whose statistics are brought up to date with it, by name.
    """

    def __init__(self, line: Line, name: str, norms: dict[str, RunningNorm]) -> None:
        self.line, self.name, self.norms = line, name, norms
        self.version = -1

    def step(self, step: GradientStep, *args: Any) -> Tensor:
        """Send g_r and the number of its rows; -> its norm."""
        grad = step.theta.grad
        assert grad is not None
        norm = torch.linalg.vector_norm(grad.view(step.learners, -1), dim=-1, keepdim=True)
        self.take(step, self.line.call("push", self.line.rank, self.name, self.version, grad.numpy(), weight(*args)))
        return norm if step.learners > 1 else norm.squeeze()

    def begin(self, step: GradientStep, progress: float) -> None:
        """Fetch θ, and the statistics of all in exchange for what came in here."""
        self.take(step, self.line.call("fetch", self.name, progress))
        if self.norms:
            moments = {
                name: [tuple(x.numpy() for x in batch) for batch in norm.merged or ()]
                for name, norm in self.norms.items()
            }
            for name, tensors in self.line.call("merge", moments).items():
                for key, tensor in self.norms[name].named_buffers():
                    tensor.copy_(torch.tensor(tensors[key]))
                self.norms[name].merged = []

    def take(self, step: GradientStep, found: Any) -> None:
        """Go on with these parameters."""
        self.version, theta = found
        step.theta.copy_(torch.tensor(theta))


def weight(*args: Any) -> float:
    """How many rows a loss's arguments hold: the valid ones of a batch."""
    return max(float(args[0].valid.sum()), 1.0) if args and isinstance(args[0], Transition) else 1.0


def normalizers(algorithm: Algorithm) -> dict[str, RunningNorm]:
    """Those of an algorithm, by name."""
    return {name: module for name, module in algorithm.named_modules() if isinstance(module, RunningNorm)}


@contextmanager
def tied(algorithm: Algorithm, line: Line, clock: ChiefClock) -> Iterator[None]:
    """In the block, the chief takes this algorithm's gradient steps, and the clock counts there."""
    module, count = line.call("join", line.rank)
    if line.rank:
        algorithm.load_state_dict({**algorithm.state_dict(), **module})
    clock.line = line
    clock.take(count)
    norms = normalizers(algorithm)
    for norm in norms.values():
        norm.merged = []
    try:
        for name, step in algorithm.steps().items():
            step.exchange = ToChief(line, name, norms)
            norms = {}  # once is enough
        yield
    finally:
        for step in algorithm.steps().values():
            step.exchange = None
        for norm in normalizers(algorithm).values():
            norm.merged = None


class RayChief(Chief):
    """The chief as an actor, which also sees how the workers end."""

    async def employ(self, rank: int, work: list[Any]) -> None:
        """Wait for a worker's end, `work` being the reference to what it runs."""
        from ray.exceptions import RayError

        try:
            why = await work[0]
        except RayError as error:
            why = f"its process died: {str(error).splitlines()[0]}"
        await self.leave(rank, why)


class RayWorker:
    """A worker as an actor."""

    def __init__(self, paths: list[str], folder: str) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        with suppress(OSError):  # another machine may not have it
            os.chdir(folder)

    def work(self, settings: dict[str, Any], rank: int, chief: Any) -> str:
        """Learn along until the run is over; -> what went wrong, empty where nothing did."""
        from pgrun.parallel.worker import learn_along

        try:
            learn_along(settings, rank, chief)
        except Lost:
            return ""  # the leader tells of it
        except Exception as error:
            return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return ""


class Crew:
    """The chief and the workers but the leader, from start to end; none outlives the block."""

    def __init__(self, team: OnRay, algorithm: Algorithm, settings: dict[str, Any], clock: Clock) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.ray, self.team = ray, team
        self.chief = (
            ray.remote(RayChief)
            .options(num_cpus=0, scheduling_strategy=here, max_concurrency=1000)
            .remote(
                wait_for=team.wait_for,
                held={name: Held.of(step) for name, step in algorithm.steps().items()},
                norms=normalizers(algorithm),
                module={name: x.detach() for name, x in algorithm.state_dict().items() if not own(name)},
                steps=clock.steps,
                updates=clock.updates,
                threads=torch.get_num_threads(),
            )
        )
        self.line = Line(self.chief, 0)
        worker = ray.remote(RayWorker).options(num_cpus=team.cpus, scheduling_strategy="SPREAD", max_restarts=0)
        self.workers = {rank: worker.remote(sys.path, os.getcwd()) for rank in range(1, team.workers)}
        self.works = {rank: actor.work.remote(settings, rank, self.chief) for rank, actor in self.workers.items()}
        for rank, work in self.works.items():
            self.chief.employ.remote(rank, [work])
        self.told: set[int] = set()  # the ranks whose end the log knows
        self.dropped = 0  # as the log knows it
        self.tenth = 10.0 * clock.progress
        if clock.steps and self.workers:
            log.info("the other workers start fresh episodes")

    def __enter__(self) -> Crew:
        return self

    def gather(self) -> None:
        """Wait until the workers are there."""
        ranks = list(self.workers)
        self.line.call("gather", ranks, START)
        status = self.line.call("status")
        if late := [rank for rank in ranks if rank not in status["alive"] and rank not in status["ended"]]:
            cpus = self.ray.cluster_resources().get("CPU", 0)
            log.warning(
                "%s not there after %d seconds; going on without, until they come (Ray has %g CPUs for %d workers)",
                "worker " + ", ".join(map(str, late)), START, cpus, len(ranks),
            )  # fmt: skip
        self.report(status)

    def watch(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """A hook: tell of workers that have ended, once, and at each tenth of the run of gradients that were dropped."""
        status = self.line.call("status")
        self.report(status)
        if metrics:
            metrics["parallel/alive"] = torch.tensor(float(len(status["alive"])))
            metrics["parallel/dropped"] = torch.tensor(float(sum(status["dropped"].values())))
        if 10.0 * clock.progress >= self.tenth + 1.0 and clock.running:
            self.tenth = 10.0 * clock.progress
            self.tell_dropped(status)

    def tell(self, clock: Clock) -> None:
        """At the end: what was dropped."""
        with suppress(Lost):
            status = self.line.call("status")
            if not clock.running:
                self.tell_dropped(status)

    def report(self, status: dict[str, Any]) -> None:
        """Tell of those that have ended before their time."""
        for rank, why in status["ended"].items():
            if rank not in self.told and why:
                log.warning("worker %d ended (%s); going on with %d", rank, why, len(status["alive"]))
            self.told.add(rank)

    def tell_dropped(self, status: dict[str, Any]) -> None:
        """One line, where there is something new."""
        dropped = {rank: n for rank, n in sorted(status["dropped"].items()) if n}
        if sum(dropped.values()) > self.dropped:
            self.dropped = sum(dropped.values())
            each = ", ".join(f"worker {rank} {n}" for rank, n in dropped.items())
            log.info("dropped %d of %d gradients: %s", self.dropped, sum(status["received"].values()), each)

    def __exit__(self, kind: Any, *_: Any) -> None:
        with suppress(self.ray.exceptions.RayError):
            self.chief.end.remote()
            if works := list(self.works.values()):
                self.ray.wait(works, num_returns=len(works), timeout=PATIENCE if kind is None else 1.0)
        for actor in (*self.workers.values(), self.chief):
            self.ray.kill(actor)


@contextmanager
def cluster(address: str | None, workers: int, cpus: float) -> Iterator[None]:
    """Be connected to Ray: to a running cluster, or to one of this run alone, which ends with the block."""
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    logging.getLogger("ray").setLevel(logging.ERROR)
    import ray

    if ray.is_initialized():  # this run is itself a job of Ray's
        yield
        return
    options: dict[str, Any] = {"address": address or "local"}
    if address is None:
        options |= {"num_cpus": max(round(workers * max(cpus, 1.0)), 1), "include_dashboard": False}
    with signals_kept():
        try:
            ray.init(**options, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"parallel.address={address}" if address else "parallel=ray"
            raise UserError(f"{where}: Ray can't be reached: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        with signals_kept():
            ray.shutdown()


@contextmanager
def signals_kept() -> Iterator[None]:
    """Ray puts handlers of its own in place of ours; ours come back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
