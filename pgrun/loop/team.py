"""The processes that run the loop together, as the run sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.collector import Collector
from pgrun.config.ranges import Count
from pgrun.errors import UserError
from pgrun.loop import launched
from pgrun.loop.train import Clock, Hook
from pgrun.memory.memory import Memory


class Team:
    """The processes of one run. This class is a single process; subclasses override what several of them need.

    Rank 0, the leader, logs, evaluates and writes checkpoints. The others only run the loop.

    Args:
        workers: W, the number of processes.
        rank: this process's number, from 0.
    """

    apart = True  # whether the leader can write a checkpoint alone, once it has left the others

    def __init__(self, *, workers: int, rank: int = 0) -> None:
        self.workers, self.rank = workers, rank
        self.shared: Any = None  # what connects a worker to the leader, which sets it

    def environments(self, num_envs: int) -> int:
        """Return how many of the config's environments this process has."""
        return num_envs

    def episodes(self, episodes: int) -> int:
        """Return how many of a rollout's episodes, as the config gives them, this process collects."""
        return episodes

    def seed(self, seed: int) -> int:
        """Return the seed of this process's generators and environments; the leader's is the run's own."""
        return int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]) if self.rank else seed

    def check(self, algorithm: Algorithm) -> None:
        """Raise UserError if these processes can't learn this algorithm together."""

    def take(self, algorithm: Algorithm, collector: Collector, memory: Memory) -> None:
        """Take this process's parts, once all are built.

        Raises:
            UserError: the processes can't share what the parts hold.
        """

    def clock(self, total_steps: int) -> Clock:
        """Make a clock that counts the steps of all processes."""
        return Clock(total_steps)

    @contextmanager
    def at_work(self, algorithm: Algorithm, settings: dict[str, Any], clock: Clock) -> Iterator[Sequence[Hook]]:
        """Have the other processes running and connected while the loop runs; none is left behind.

        Args:
            algorithm: this process's algorithm.
            settings: the config as plain values, from which the others are made.
            clock: the loop's clock.

        Yields:
            Hooks that watch the processes.
        """
        yield ()

    def gather(self, algorithm: Algorithm) -> None:
        """Bring what others hold of the algorithm to this process, so that its checkpoint is complete."""

    def snapshot(self) -> list[dict[str, Any]]:
        """Return what the other processes need to go on from here, as tensors and plain values; [] if nothing."""
        return []

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Restore a snapshot, before the loop."""


def afresh(settings: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return the settings of workers that begin at this step of the run.

    Their seed is another one than at the run's start, so that episodes and draws are not repeated.
    """
    seed = settings["seed"]
    return {**settings, "seed": int(np.random.SeedSequence([seed, steps]).generate_state(1)[0]) if steps else seed}


def own(name: str) -> bool:
    """Tell by its name whether a tensor belongs to single environments, and so stays with its process."""
    return name.endswith("carry")


def check_gradient_steps(algorithm: Algorithm, parallel: str) -> None:
    """Raise UserError if parameters change by more than gradient steps."""
    stepped = {id(p) for step in algorithm.steps().values() for p in step.parameters}
    if any(p.requires_grad and id(p) not in stepped for p in algorithm.parameters()):
        raise UserError(
            f"{type(algorithm).__name__} moves parameters by more than gradients, which parallel={parallel} can't "
            "share: use parallel=ddp, or an algorithm of gradient steps"
        )


class Alone(Team):
    """A single process (`parallel=none`).

    Args:
        workers: processes that run the loop together.
    """

    def __init__(self, *, workers: Count, rank: int = 0) -> None:
        super().__init__(workers=workers, rank=rank)
        if workers != 1:
            raise UserError(
                f"workers={workers} asks for several processes: say what they do with their gradients by parallel=ddp "
                "or parallel=async, or use workers=1 (env.num_envs is for more environments)"
            )
        if launched.here() and launched.world() > 1:
            raise UserError(f"torchrun started {launched.world()} processes, and this run is of one (parallel=none)")
