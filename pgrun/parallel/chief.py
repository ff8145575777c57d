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
from pgrun.optim import GradientStep, Optimizer, clip

Moments = dict[str, list[tuple[np.ndarray, ...]]]  # of each normaliser, by name: n, mean and variance of some batches


class Parameters(NamedTuple):
    """What a worker goes on with."""

    version: int  # how many steps made them
    theta: np.ndarray  # [P]


class Count(NamedTuple):
    """What all workers have done together."""

    steps: int
    updates: int
    over: bool  # whether the run has ended


@dataclass
class Held:
    """One gradient step's parameters at the chief."""

    theta: Tensor  # [P]
    optimizer: Any
    max_grad_norm: float | None
    learners: int
    version: int = 0
    arrived: dict[int, tuple[Tensor, float]] = field(default_factory=dict)  # by rank: a gradient of this version, n_r
    decided: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, step: GradientStep) -> Held:
        """A copy of a gradient step's, on the CPU."""
        return cls(step.theta, step.optimizer, step.max_grad_norm, step.learners)

    def step(self) -> None:
        """θ ← θ − α ĝ with ĝ = Σ n_r g_r / Σ n_r over those that are there, clipped; who waited may go on."""
        grad = self.theta.grad
        assert grad is not None
        grad.zero_()
        total = sum(weight for _, weight in self.arrived.values())
        for _, (gradient, weight) in sorted(self.arrived.items()):
            grad.add_(gradient, alpha=weight / total)
        clip(grad, self.max_grad_norm, self.learners)
        self.optimizer.step()
        self.version += 1
        self.arrived.clear()
        self.decided.set()
        self.decided = asyncio.Event()

    @property
    def parameters(self) -> Parameters:
        """As they are now."""
        return Parameters(self.version, self.theta.numpy().copy())


class Chief:
    """Steps when D of W gradients have arrived, and drops the late ones: Heess et al. 2017,
    https://arxiv.org/abs/1707.02286, appendix A, algorithm 2.

    Each gradient step counts its versions. A gradient of the version that is held is taken in, and its sender waits
    until the round is decided; a gradient of an older one is dropped, and its sender goes on at once with what is held.
    A round is decided when D gradients are there, or as many as can still come: workers that have ended can't, and
    those that wait in another step's round can't. So none waits for ever, wherever the others are.

    All methods run in one thread, turn by turn.

    Args:
        wait_for: D.
        held: what is learned, by the gradient steps' names.
        norms: the running normalisers, whose statistics are those of all workers.
        module: all tensors of the leader's algorithm as the run begins.
        steps, updates: counted so far.
    """

    def __init__(
        self,
        *,
        wait_for: int,
        held: dict[str, Held],
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
        self.begun = asyncio.Event()
        self.alive: set[int] = set()
        self.ended: dict[int, str] = {}  # why a worker has left, by its rank; nothing where it has done its work
        self.changed = asyncio.Event()  # set when one has joined or left
        self.received: dict[int, int] = {}
        self.dropped: dict[int, int] = {}

    async def join(self, rank: int) -> tuple[dict[str, Tensor], Count]:
        """A worker is there; -> once the run begins, what its algorithm begins with, and where the run stands."""
        self.alive.add(rank)
        self.received[rank] = self.dropped[rank] = 0
        self.tell()
        if rank:
            await self.begun.wait()
        return self.module, self.count

    async def leave(self, rank: int, why: str = "") -> None:
        """A worker has ended: nobody waits for it any more."""
        if rank not in self.ended:
            self.alive.discard(rank)
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

    async def begin(self) -> None:
        """Those that have joined may go on, and so may all that come later."""
        self.begun.set()

    def tell(self) -> None:
        """Wake who waits for a worker."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def push(self, rank: int, name: str, version: int, gradient: np.ndarray, weight: float) -> Parameters:
        """A worker's gradient [P] of the mean over `weight` rows, at a version; -> once it is taken in or dropped, what
        the worker goes on with.
        """
        held = self.held[name]
        if self.over:
            return held.parameters
        self.received[rank] += 1
        if version != held.version:
            self.dropped[rank] += 1
        else:
            held.arrived[rank] = (torch.tensor(gradient), weight)
            decided = held.decided
            self.decide()
            await decided.wait()
        return held.parameters

    def decide(self) -> None:
        """Step wherever all are there that a round waits for."""
        again = True
        while again:
            again = False
            for held in self.held.values():
                elsewhere = {rank for other in self.held.values() if other is not held for rank in other.arrived}
                can_come = len(self.alive - elsewhere)
                if held.arrived and len(held.arrived) >= min(self.wait_for, can_come):
                    held.step()
                    again = True  # its workers can come to the others now

    async def fetch(self, name: str, progress: float) -> Parameters:
        """A rollout begins, at this progress of the run; -> the parameters that are held."""
        held = self.held[name]
        self.progress = max(self.progress, progress)
        if isinstance(held.optimizer, Optimizer):
            held.optimizer.set_progress(self.progress)
        return held.parameters

    async def merge(self, moments: Moments) -> dict[str, dict[str, np.ndarray]]:
        """Take what a worker's normalisers have seen into the statistics of all; -> these."""
        for name, batches in moments.items():
            for batch in batches:
                self.norms[name].merge(*(torch.tensor(x) for x in batch))
        return {name: {key: x.numpy().copy() for key, x in norm.named_buffers()} for name, norm in self.norms.items()}

    async def advance(self, steps: int, updates: int) -> Count:
        """Count what a worker has done; -> what all have."""
        self.steps += steps
        self.updates += updates
        return self.count

    @property
    def count(self) -> Count:
        """What all workers have done together."""
        return Count(self.steps, self.updates, self.over)

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
        for held in self.held.values():
            held.arrived.clear()
            held.decided.set()
