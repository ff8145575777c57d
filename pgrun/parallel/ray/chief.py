"""The chief of several workers: it holds what they learn, and steps when enough of their gradients are there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgrun.nn.normalize import RunningNorm
from pgrun.optim.gradient_step import GradientStep, clip
from pgrun.optim.rules import Optimizer

Moments = dict[str, list[tuple[np.ndarray, ...]]]  # of each normaliser, by name: n, mean and variance of some batches
Place = tuple[int, int]  # in the run: which rollout, and which gradient step of it


class Parameters(NamedTuple):
    """What a worker goes on with."""

    version: int  # how many steps made them
    theta: np.ndarray  # [P]


class Tally(NamedTuple):
    """What all workers have done together."""

    steps: int
    updates: int
    over: bool  # whether the run has ended


@dataclass
class Push:
    """A gradient that waits for others."""

    rank: int
    place: Place
    name: str  # of the gradient step
    gradient: Tensor  # [P]
    weight: float
    decided: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class ChiefParameters:
    """One gradient step's parameters at the chief."""

    theta: Tensor  # [P]
    optimizer: Any
    max_grad_norm: float | None
    learners: int
    version: int = 0

    @classmethod
    def of(cls, step: GradientStep) -> ChiefParameters:
        """A gradient step's."""
        return cls(step.theta, step.optimizer, step.max_grad_norm, step.learners)

    def step(self, pushes: list[Push]) -> None:
        """θ ← θ − α ĝ with ĝ = Σ n_r g_r / Σ n_r, clipped."""
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
        """As they are now."""
        return Parameters(self.version, self.theta.numpy().copy())


class Chief:
    """Steps when D of W gradients have arrived, and drops the late ones: Heess et al. 2017,
    https://arxiv.org/abs/1707.02286, appendix A, algorithm 2.

    All workers take the same gradient steps in the same order, rollout by rollout, so each gradient has its place. One
    whose place the chief has passed is late: it is dropped, and its sender goes on at once with what is held. The
    others wait until D are waiting, or all workers that there are. Then the step at the earliest of their places is
    taken, with all gradients for its parameters. Mostly they wait at one place; where a worker has left out steps they
    don't, and still none waits for ever, and D never wait for the rest. A worker that begins a rollout takes the place
    where those in time begin their next.

    All methods run in one thread, turn by turn.

    Args:
        wait_for: D.
        held: what is learned, by the gradient steps' names.
        norms: the running normalisers, whose statistics are those of all workers.
        module: all tensors of the leader's algorithm as the run begins.
        steps, updates: counted so far.
        threads: torch's.
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
        for one in held.values():  # a gradient does not travel with its tensor
            one.theta.grad = torch.zeros_like(one.theta)
        self.wait_for, self.held, self.norms, self.module = wait_for, held, norms, module
        self.steps, self.updates, self.progress, self.over = steps, updates, 0.0, False
        self.next: Place = (0, 0)  # the earliest place whose step is still to be taken
        self.places: dict[int, Place] = {}  # of each worker's next gradient, by rank
        self.waiting: dict[int, Push] = {}
        self.begun = asyncio.Event()
        self.alive: set[int] = set()
        self.ended: dict[int, str] = {}  # why a worker has left, by its rank; nothing where it has done its work
        self.changed = asyncio.Event()  # set when one has joined or left
        self.received: dict[int, int] = {}
        self.dropped: dict[int, int] = {}

    async def join(self, rank: int) -> tuple[dict[str, Tensor], Tally]:
        """A worker is there; -> once the run begins, what its algorithm begins with, and where the run stands."""
        self.alive.add(rank)
        self.places[rank] = (0, 0)
        self.received[rank] = self.dropped[rank] = 0
        self.tell()
        if rank:
            await self.begun.wait()
        return self.module, self.count

    async def leave(self, rank: int, why: str = "") -> None:
        """A worker has ended: nobody waits for it any more."""
        if rank not in self.ended:
            self.alive.discard(rank)
            self.waiting.pop(rank, None)
            self.ended[rank] = why
            self.tell()
            self.decide()

    async def gather(self, ranks: list[int], seconds: float) -> bool:
        """Wait, but no longer than this, until each of these has joined or ended; -> whether they have."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not set(ranks) <= self.alive | set(self.ended):
                    await self.changed.wait()
        return set(ranks) <= self.alive | set(self.ended)

    async def start(self) -> None:
        """Those that have joined may go on, and so may all that come later."""
        self.begun.set()

    def tell(self) -> None:
        """Wake who waits for a worker."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def begin(
        self, rank: int, progress: float, moments: Moments
    ) -> tuple[dict[str, Parameters], dict[str, dict[str, np.ndarray]]]:
        """A worker begins a rollout, at this progress of the run, and its normalisers have seen these batches; -> the
        parameters that are held, and the normalisers' statistics.
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
        """A worker's gradient [P] of the mean over `weight` rows, at a version; -> once it is taken in or dropped, what
        the worker goes on with.
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
        """Step while as many are waiting as are waited for."""
        while self.waiting and len(self.waiting) >= min(self.wait_for, len(self.alive)):
            first = min(self.waiting.values(), key=lambda push: (push.place, push.rank))
            round_ = [push for _, push in sorted(self.waiting.items()) if push.name == first.name]
            self.held[first.name].step(round_)
            self.next = max(self.next, (first.place[0], first.place[1] + 1))
            for push in round_:
                del self.waiting[push.rank]
                push.decided.set()

    async def advance(self, steps: int, updates: int) -> Tally:
        """Count what a worker has done; -> what all have."""
        self.steps += steps
        self.updates += updates
        return self.count

    @property
    def count(self) -> Tally:
        """What all workers have done together."""
        return Tally(self.steps, self.updates, self.over)

    async def state(self) -> dict[str, tuple[Tensor, dict[str, Any]]]:
        """θ and the optimizer's state of each gradient step, as of one moment."""
        return {name: (held.theta, held.optimizer.state_dict()) for name, held in self.held.items()}

    async def status(self) -> dict[str, Any]:
        """Who is there, who has ended and why, what came of each and was dropped, and how many steps were taken."""
        return {
            "alive": sorted(self.alive),
            "ended": dict(self.ended),
            "received": dict(self.received),
            "dropped": dict(self.dropped),
            "taken": {name: held.version for name, held in self.held.items()},
        }

    async def end(self) -> None:
        """The run has ended: whoever waits goes on, and nothing is stepped any more."""
        self.over = True
        for push in self.waiting.values():
            push.decided.set()
        self.waiting.clear()
