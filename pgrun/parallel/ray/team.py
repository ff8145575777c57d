"""Training by workers on Ray that send their gradients to a chief, on this machine or on a cluster."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.collector import Collector
from pgrun.config.ranges import Count, NotNegative
from pgrun.data.types import Transition, loss_rows
from pgrun.errors import UserError
from pgrun.loop.team import Team, afresh, check_gradient_steps, own
from pgrun.loop.train import Clock, Hook
from pgrun.memory.memory import Memory
from pgrun.memory.replay import Replay
from pgrun.nn.normalize import RunningNorm
from pgrun.optim.gradient_step import GradientStep
from pgrun.optim.rules import Optimizer
from pgrun.parallel.ray.actors import ChiefClient, RayActors, cluster
from pgrun.parallel.ray.chief import ChiefParameters, Tally
from pgrun.parallel.ray.connection import knock

log = logging.getLogger("pgrun")


class OnRay(Team):
    """W workers, each with its own environments, that send all gradients to a chief, which steps when it has D of them.

    The leader is worker 0, in this process. The other workers and the chief are Ray actors.

    Args:
        workers: W, processes that run the loop together.
        wait_for: D, gradients that an update waits for; None: those of all W.
        address: of a running Ray cluster, or "auto" for this machine's; None: Ray is started here, for this run.
        cpus: that Ray sets apart for each worker but the leader.
    """

    def __init__(
        self, *, workers: Count, wait_for: Count | None, address: str | None, cpus: NotNegative, rank: int = 0
    ) -> None:
        super().__init__(workers=workers, rank=rank)
        if wait_for is not None and wait_for > workers:
            raise UserError(
                f"parallel.wait_for={wait_for} gradients never come from workers={workers}: use at most as many"
            )
        if importlib.util.find_spec("ray") is None:
            raise UserError("parallel=ray needs a package that is not installed: pip install 'pgrun[ray]'")
        self.wait_for, self.address, self.cpus = wait_for or workers, address, cpus
        self.line: ChiefClient | None = None

    def clock(self, total_steps: int) -> ChiefClock:
        """Make a clock that shows the chief's counts; see `Team.clock`."""
        return ChiefClock(total_steps)

    def check(self, algorithm: Algorithm) -> None:
        """Raise UserError if the chief can't take every gradient step, or if no cluster answers."""
        if self.address is not None and not self.rank:
            knock(self.address, "parallel.address")
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

    def take(self, algorithm: Algorithm, collector: Collector, memory: Memory) -> None:
        """Divide the memory available for a replay among the processes of this machine; see `Team.take`."""
        if self.workers > 1 and isinstance(memory, Replay):
            memory.share(self.workers, here=self.workers if self.address is None else 1)

    @contextmanager
    def at_work(self, algorithm: Algorithm, settings: dict[str, Any], clock: Clock) -> Iterator[Sequence[Hook]]:
        """Run the chief and the workers while the loop runs; see `Team.at_work`."""
        assert isinstance(clock, ChiefClock)
        if self.rank:
            with tied(algorithm, ChiefClient(self.shared, self.rank), clock):
                yield ()
            return
        if self.workers > 1:
            where = f"the Ray cluster {self.address}" if self.address else "this machine"
            fresh = "; all but the first start afresh: episodes, and memory" if clock.steps else ""
            log.info("%d workers on %s; %d gradients a step%s", self.workers, where, self.wait_for, fresh)
        with cluster(self.address, self.workers, self.cpus):
            held = {
                "wait_for": self.wait_for,
                "held": {name: ChiefParameters.of(step) for name, step in algorithm.steps().items()},
                "norms": normalizers(algorithm),
                "module": {name: x.detach() for name, x in algorithm.state_dict().items() if not own(name)},
                "steps": clock.steps,
                "updates": clock.updates,
                "threads": torch.get_num_threads(),
            }
            with (
                RayActors(held, afresh(settings, clock.steps), workers=self.workers - 1, cpus=self.cpus) as crew,
                tied(algorithm, crew.line, clock),
            ):
                self.line = crew.line
                crew.gather(clock)
                try:
                    yield (crew.watch,)
                    self.line.call("end")  # the last checkpoint is to hold every step
                    self.gather(algorithm)
                    clock.take(self.line.call("advance", 0, 0))
                finally:
                    self.line = None
                    crew.tell(clock)

    def gather(self, algorithm: Algorithm) -> None:
        """Copy the chief's parameters and optimizer states into this process; see `Team.gather`."""
        if self.line is None:
            return
        for name, (theta, state) in self.line.call("state").items():
            step = algorithm.steps()[name]
            step.theta.copy_(theta)
            step.optimizer.load_state_dict(state)


class ChiefClock(Clock):
    """A clock that shows the steps and updates of all workers, as the chief counts them."""

    line: ChiefClient
    over = False  # whether the leader has ended the run

    def take(self, count: Tally) -> None:
        """Show the chief's count."""
        self.steps, self.updates, self.over = count

    @property
    def running(self) -> bool:
        """Return whether the run goes on; see `Clock.running`."""
        return super().running and not self.over

    def advance(self, rollout: Transition) -> None:
        """Count a rollout's real steps at the chief."""
        self.take(self.line.call("advance", int(rollout.valid.sum()), 0))

    def count_update(self) -> None:
        """Count an update at the chief."""
        self.take(self.line.call("advance", 0, 1))


class ToChief:
    """The gradient exchange with the chief: gradients go there, parameters come back."""

    def __init__(self, line: ChiefClient, algorithm: Algorithm) -> None:
        self.line, self.norms = line, normalizers(algorithm)
        self.steps = algorithm.steps()
        self.names = {id(step): name for name, step in self.steps.items()}
        self.versions: dict[str, int] = {}

    def step(self, step: GradientStep, *args: Any) -> Tensor:
        """Send this worker's gradient and its number of rows to the chief, and take the parameters it returns.

        Returns:
            The norm of the gradient: 0-dimensional, or [learners, 1].
        """
        grad, name = step.theta.grad, self.names[id(step)]
        assert grad is not None
        norm = torch.linalg.vector_norm(grad.view(step.learners, -1), dim=-1, keepdim=True)
        sent = self.line.rank, name, self.versions[name], grad.numpy(), max(float(loss_rows(args, grad)), 1.0)
        self.take(name, self.line.call("push", *sent))
        return norm if step.learners > 1 else norm.squeeze()

    def begin(self, step: GradientStep, progress: float) -> None:
        """Fetch the parameters before a rollout's first step, and exchange the normalizers' statistics."""
        if step is not next(iter(self.steps.values())):
            return
        moments = {
            name: [tuple(x.numpy() for x in batch) for batch in norm.merged or ()] for name, norm in self.norms.items()
        }
        parameters, statistics = self.line.call("begin", self.line.rank, progress, moments)
        for name, held in parameters.items():
            self.take(name, held)
        for name, norm in self.norms.items():
            norm.merged = []
            for key, tensor in norm.named_buffers():
                tensor.copy_(torch.tensor(statistics[name][key]))

    def take(self, name: str, found: Any) -> None:
        """Go on with the parameters that the chief returned."""
        self.versions[name], theta = found
        self.steps[name].theta.copy_(torch.tensor(theta))


def normalizers(algorithm: Algorithm) -> dict[str, RunningNorm]:
    """Return the running normalizers of an algorithm, by name."""
    return {name: module for name, module in algorithm.named_modules() if isinstance(module, RunningNorm)}


@contextmanager
def tied(algorithm: Algorithm, line: ChiefClient, clock: ChiefClock) -> Iterator[None]:
    """For the block, let the chief take this algorithm's gradient steps and count for this clock."""
    module, count = line.call("join", line.rank)
    if line.rank:
        algorithm.load_state_dict({**algorithm.state_dict(), **module})
    clock.line = line
    clock.take(count)
    exchange = ToChief(line, algorithm)
    for norm in exchange.norms.values():
        norm.merged = []
    try:
        for step in exchange.steps.values():
            step.exchange = exchange
        yield
    finally:
        for step in exchange.steps.values():
            step.exchange = None
        for norm in exchange.norms.values():
            norm.merged = None
