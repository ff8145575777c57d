"""Hogwild: processes that train shared weights asynchronously, without locks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.collector import Collector
from pgrun.config.ranges import Count
from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.loop.team import Team, afresh, check_gradient_steps, own
from pgrun.loop.train import Clock, Hook
from pgrun.memory.memory import Memory
from pgrun.memory.replay import Replay
from pgrun.optim.gradient_step import GradientStep
from pgrun.optim.rules import Optimizer

log = logging.getLogger("pgrun")
PATIENCE = 30.0  # seconds that the leader waits, at the end, for a worker to finish the update it is in


@dataclass
class Shared:
    """The state that all processes share, in shared memory.

    There are no locks, so a process that is killed can't leave one held.
    """

    counts: Tensor  # [W, 2], int64: environment steps and updates of each process
    over: Flag  # whether the run has ended
    module: dict[str, Tensor]  # all tensors of the algorithm as the run begins
    theta: dict[str, Tensor]  # each gradient step's parameters [P], by its name
    state: dict[str, dict[str, Tensor]]  # each optimizer's tensors, by its gradient step's name
    buffers: dict[str, Tensor]  # running statistics and the like


class Flag:
    """A boolean in shared memory: one process sets it, the others see it."""

    def __init__(self) -> None:
        self.value = torch.zeros((), dtype=torch.bool).share_memory_()

    def set(self) -> None:
        """Set the flag; it stays set."""
        self.value.fill_(True)

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return bool(self.value)


class SharedClock(Clock):
    """A clock that shows the steps and updates of all processes together."""

    shared: Shared | None = None  # None until `tie`

    def tie(self, shared: Shared, rank: int) -> None:
        """Begin to count together with the other processes, from the leader's present counts on."""
        self.shared, self.mine = shared, shared.counts[rank]
        if rank == 0:
            self.mine.copy_(torch.tensor([self.steps, self.updates]))
        self.look()

    def look(self) -> None:
        """Read the counts of all processes."""
        assert self.shared is not None
        self.steps, self.updates = self.shared.counts.sum(0).tolist()

    @property
    def running(self) -> bool:
        """Return whether the run goes on, here and in the other processes; see `Clock.running`."""
        return super().running and not self.over

    @property
    def interrupted(self) -> bool:
        """Return whether to leave the rollout open; also true if another process has ended the run."""
        return super().interrupted or self.over

    @property
    def over(self) -> bool:
        """Return whether another process has ended the run."""
        return self.shared is not None and self.shared.over.is_set()

    def advance(self, rollout: Transition) -> None:
        """Count this process's steps, then read the counts of all."""
        self.mine[0] += rollout.valid.sum()
        self.look()

    def count_update(self) -> None:
        """Count an update of this process, then read the counts of all."""
        self.mine[1] += 1
        self.look()


class Hogwild(Team):
    """W processes with environments of their own, each of which applies its gradients to shared weights.

    After each step a process copies the shared weights back into its own network. Without locks, two steps at the same
    time may lose part of one another (Recht et al. 2011, https://arxiv.org/abs/1106.5730). The optimizer's statistics
    are shared as well. With W = 1 every number is the same as without `parallel`.

    Args:
        workers: processes that run the loop together.
    """

    def __init__(self, *, workers: Count, rank: int = 0) -> None:
        super().__init__(workers=workers, rank=rank)
        self.context = mp.get_context("spawn")

    def clock(self, total_steps: int) -> SharedClock:
        """Make a clock that counts the steps of all processes; see `Team.clock`."""
        return SharedClock(total_steps)

    def check(self, algorithm: Algorithm) -> None:
        """Raise UserError if a gradient step of the algorithm can't be taken in shared memory."""
        steps = algorithm.steps().values()
        if algorithm.device.type != "cpu":
            raise UserError("parallel=async shares weights in the CPU's memory: use device=cpu")
        for step in steps:
            if not isinstance(step.optimizer, Optimizer) or not step.optimizer.shareable:
                name = type(step.optimizer).__name__
                raise UserError(
                    f"parallel=async shares the optimizer's state, which {name} keeps to itself: "
                    "use optimizer=rmsprop, adam, adamw or sgd"
                )
        check_gradient_steps(algorithm, "async")

    def take(self, algorithm: Algorithm, collector: Collector, memory: Memory) -> None:
        """Divide the memory available for a replay among the processes; see `Team.take`."""
        if self.workers > 1 and isinstance(memory, Replay):
            memory.share(self.workers, here=self.workers)

    @contextmanager
    def at_work(self, algorithm: Algorithm, settings: dict[str, Any], clock: Clock) -> Iterator[Sequence[Hook]]:
        """Share the weights and run the other processes while the loop runs; see `Team.at_work`."""
        assert isinstance(clock, SharedClock)
        if self.rank:
            clock.tie(self.shared, self.rank)
            algorithm.load_state_dict({**algorithm.state_dict(), **self.shared.module})
            join(algorithm, self.shared)
            yield ()
            return
        shared = Shared(
            counts=torch.zeros(self.workers, 2, dtype=torch.long).share_memory_(),
            over=Flag(),
            module={name: x.clone() for name, x in algorithm.state_dict().items() if not own(name)},
            theta={name: step.theta.clone().share_memory_() for name, step in algorithm.steps().items()},
            state={name: step.optimizer.state for name, step in algorithm.steps().items()},
            buffers=buffers(algorithm),
        )
        for tensor in (*shared.buffers.values(), *(x for state in shared.state.values() for x in state.values())):
            tensor.share_memory_()
        clock.tie(shared, 0)
        join(algorithm, shared)
        from pgrun.parallel.workers import Workers, work

        if self.workers > 1 and clock.steps:
            log.info("all processes but the first start afresh: episodes, and memory")
        with Workers(self.context, PATIENCE, shared.over) as workers:
            for rank in range(1, self.workers):
                workers.start(rank, work, afresh(settings, clock.steps), rank, shared)
            yield (workers.watch,)
        clock.look()  # the others have counted on since
        self.gather(algorithm)

    def gather(self, algorithm: Algorithm) -> None:
        """Copy the shared weights into this process's algorithm; see `Team.gather`."""
        for step in algorithm.steps().values():
            if step.exchange is not None:
                step.exchange.begin(step, algorithm.progress)


def buffers(algorithm: Algorithm) -> dict[str, Tensor]:
    """Return an algorithm's buffers by name (running statistics and the like), without those of single environments."""
    return {name: x for name, x in algorithm.named_buffers() if not own(name)}


def join(algorithm: Algorithm, shared: Shared) -> None:
    """Make an algorithm's gradient steps update the shared weights, with shared optimizer statistics."""
    for name, step in algorithm.steps().items():
        theta = shared.theta[name].detach()  # shares the memory
        theta.grad = step.theta.grad
        step.optimizer.theta = theta
        step.optimizer.state = shared.state[name]
        step.exchange = CopyBack(theta)
    for name, buffer in buffers(algorithm).items():
        buffer.data = shared.buffers[name]
    algorithm.set_progress(algorithm.progress)


class CopyBack:
    """The gradient exchange of Hogwild: step the shared weights, then copy them into this process's network."""

    def __init__(self, theta: Tensor) -> None:
        self.theta = theta

    def step(self, step: GradientStep, *args: Any) -> Tensor:
        """Apply this process's gradient to the shared weights, θ ← θ − α g, and copy them back, θ′ ← θ.

        Returns:
            The norm of the gradient.
        """
        norm = step.descend(*args)
        step.theta.copy_(self.theta)
        return norm

    def begin(self, step: GradientStep, progress: float) -> None:
        """Copy the shared weights into this process's network, θ′ ← θ."""
        step.theta.copy_(self.theta)
