"""The chief of several workers: it holds the parameters, and takes a step when enough gradients have arrived."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgrun.nn.normalize import RunningNorm
from pgrun.optim.gradient_step import GradientStep
from pgrun.optim.rules import Optimizer
from pgrun.optim.vectors import clip

Moments = dict[str, list[tuple[np.ndarray, ...]]]  # by normalizer: n, mean and variance of some batches
Place = tuple[int, int]  # a position in the run: number of the rollout, number of the gradient step in it


class Parameters(NamedTuple):
    """The parameters that a worker gets from the chief."""

    version: int  # the number of steps taken so far
    theta: np.ndarray  # [P]


class Tally(NamedTuple):
    """The steps and updates of all workers together."""

    steps: int
    updates: int
    over: bool  # whether the run has ended


@dataclass
class Push:
    """A gradient that waits at the chief for others."""

    rank: int
    place: Place
    name: str  # the gradient step's
    gradient: Tensor  # [P]
    weight: float
    decided: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class ChiefParameters:
    """The parameters of one gradient step, as the chief holds them."""

    theta: Tensor  # [P]
    optimizer: Any
    max_grad_norm: float | None
    learners: int
    version: int = 0

    @classmethod
    def of(cls, step: GradientStep) -> ChiefParameters:
        """Take the parameters and the optimizer of a gradient step."""
        return cls(step.theta, step.optimizer, step.max_grad_norm, step.learners)

    def step(self, pushes: list[Push]) -> None:
        """Take the step θ ← θ − α ĝ with ĝ = Σ n_r g_r / Σ n_r, clipped."""
        grad = self.theta.grad
        assert grad is not None
        grad.zero_()
        total = sum(push.weight for push in pushes)
        for push in pushes:
            grad.add_(push.gradient, alpha=push.weight / total)
        clip(grad, self.max_grad_norm, self.learners)
        self.optimizer.step()
        self.version += 1

    @property
    def parameters(self) -> Parameters:
        """Return a copy of the present parameters with their version."""
        return Parameters(self.version, self.theta.numpy().copy())


class Chief:
    """Takes a step when D of W gradients have arrived, and drops those that come too late.

    After Heess et al. 2017, https://arxiv.org/abs/1707.02286, appendix A, algorithm 2.

    All workers take the same gradient steps in the same order, rollout by rollout, so each gradient has a place in that
    order. A gradient whose place the chief has passed is late: it is dropped, and its sender goes on at once with the
    present parameters. The other gradients wait until D of them, or those of all living workers, are there. Then the
    chief takes the step at the earliest of their places, with all waiting gradients of the same parameters. Usually
    they all wait at one place. They don't where a worker has skipped steps; even then no worker waits forever, and D
    gradients never wait for more. A worker that begins a rollout moves to the place where the workers in time begin
    their next one.

    All methods run in one thread, one after another.

    Args:
        wait_for: D.
        held: the parameters, by the names of their gradient steps.
        norms: the running normalizers by name; their statistics are those of all workers.
        module: all tensors of the leader's algorithm as the run begins.
        steps, updates: counted so far.
        threads: the number of torch's threads.
    """

    def __init__(
        self,
        *,
        wait_for: int,
        held: dict[str, ChiefParameters],
        norms: dict[str, RunningNorm],
        module: dict[str, Tensor],
        steps: int,
        updates: int,
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)
        for parameters in held.values():  # a gradient does not travel with its tensor
            parameters.theta.grad = torch.zeros_like(parameters.theta)
        self.wait_for, self.held, self.norms, self.module = wait_for, held, norms, module
        self.steps, self.updates, self.progress, self.over = steps, updates, 0.0, False
        self.next: Place = (0, 0)  # the earliest place whose step is still to be taken
        self.places: dict[int, Place] = {}  # the place of each worker's next gradient, by rank
        self.waiting: dict[int, Push] = {}
        self.begun = asyncio.Event()
        self.alive: set[int] = set()
        self.ended: dict[int, str] = {}  # why a worker has ended, by rank; empty if it did all its work
        self.changed = asyncio.Event()  # set when a worker joins or leaves
        self.received: dict[int, int] = {}
        self.dropped: dict[int, int] = {}

    async def join(self, rank: int) -> tuple[dict[str, Tensor], Tally]:
        """Register a worker, and let it wait until the run begins.

        Returns:
            The tensors that its algorithm begins with, and the steps and updates so far.
        """
        self.alive.add(rank)
        self.places[rank] = (0, 0)
        self.received[rank] = self.dropped[rank] = 0
        self.tell()
        if rank:
            await self.begun.wait()
        return self.module, self.count

    async def leave(self, rank: int, why: str = "") -> None:
        """Note that a worker has ended and why, so that no other waits for it."""
        if rank not in self.ended:
            self.alive.discard(rank)
            self.waiting.pop(rank, None)
            self.ended[rank] = why
            self.tell()
            self.decide()

    async def gather(self, ranks: list[int], seconds: float) -> bool:
        """Wait up to `seconds` until each of these workers has joined or ended.

        Returns:
            Whether they all have.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not set(ranks) <= self.alive | set(self.ended):
                    await self.changed.wait()
        return set(ranks) <= self.alive | set(self.ended)

    async def start(self) -> None:
        """Let the workers begin: those that have joined, and those that join later."""
        self.begun.set()

    def tell(self) -> None:
        """Wake those that wait for a worker to join or leave."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def begin(
        self, rank: int, progress: float, moments: Moments
    ) -> tuple[dict[str, Parameters], dict[str, dict[str, np.ndarray]]]:
        """Begin a worker's rollout.

        Args:
            rank: the worker's.
            progress: how much of the run is done, in [0, 1].
            moments: the statistics of what the worker's normalizers have seen since its last rollout.

        Returns:
            The parameters of all gradient steps, and the statistics of all normalizers.
        """
        rollout, taken = self.places[rank]
        self.places[rank] = (max(rollout + (taken > 0), self.next[0] + (self.next[1] > 0)), 0)
        self.progress = max(self.progress, progress)
        for held in self.held.values():
            if isinstance(held.optimizer, Optimizer):
                held.optimizer.set_progress(self.progress)
        for name, batches in moments.items():
            for batch in batches:
                self.norms[name].merge(*(torch.tensor(x) for x in batch))
        return {name: held.parameters for name, held in self.held.items()}, {
            name: {key: x.numpy().copy() for key, x in norm.named_buffers()} for name, norm in self.norms.items()
        }

    async def push(self, rank: int, name: str, version: int, gradient: np.ndarray, weight: float) -> Parameters:
        """Receive a worker's gradient, and wait until it is used or dropped.

        Args:
            rank: the worker's.
            name: of the gradient step.
            version: of the parameters that the gradient was computed at.
            gradient: [P], the gradient of a mean over `weight` rows.
            weight: the number of these rows.

        Returns:
            The parameters that the worker goes on with.
        """
        held, place = self.held[name], self.places[rank]
        self.places[rank] = (place[0], place[1] + 1)
        if self.over:
            return held.parameters
        self.received[rank] += 1
        if place < self.next or version != held.version:
            self.dropped[rank] += 1
        else:
            push = self.waiting[rank] = Push(rank, place, name, torch.tensor(gradient), weight)
            self.decide()
            await push.decided.wait()
        return held.parameters

    def decide(self) -> None:
        """Take steps as long as enough gradients are waiting."""
        while self.waiting and len(self.waiting) >= min(self.wait_for, len(self.alive)):
            first = min(self.waiting.values(), key=lambda push: (push.place, push.rank))
            round_ = [push for _, push in sorted(self.waiting.items()) if push.name == first.name]
            self.held[first.name].step(round_)
            self.next = max(self.next, (first.place[0], first.place[1] + 1))
            for push in round_:
                del self.waiting[push.rank]
                push.decided.set()

    async def advance(self, steps: int, updates: int) -> Tally:
        """Add a worker's steps and updates to the count.

        Returns:
            The count of all workers.
        """
        self.steps += steps
        self.updates += updates
        return self.count

    @property
    def count(self) -> Tally:
        """Return the steps and updates of all workers, and whether the run has ended."""
        return Tally(self.steps, self.updates, self.over)

    async def state(self) -> dict[str, tuple[Tensor, dict[str, Any]]]:
        """Return θ and the optimizer's state of each gradient step, all at one moment."""
        return {name: (held.theta, held.optimizer.state_dict()) for name, held in self.held.items()}

    async def status(self) -> dict[str, Any]:
        """Report on the workers.

        Returns:
            The ranks alive; why others ended; gradients received and dropped by rank; steps taken by gradient step.
        """
        return {
            "alive": sorted(self.alive),
            "ended": dict(self.ended),
            "received": dict(self.received),
            "dropped": dict(self.dropped),
            "taken": {name: held.version for name, held in self.held.items()},
        }

    async def end(self) -> None:
        """End the run: release all waiting workers, and take no more steps."""
        self.over = True
        for push in self.waiting.values():
            push.decided.set()
        self.waiting.clear()
