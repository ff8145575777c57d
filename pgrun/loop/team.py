"""The processes that run the loop together, as a run sees them."""

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
    """The processes of one run; this class is a process alone (`parallel=none`), the others change what they need.

    Rank 0, the leader, logs, evaluates and writes checkpoints; the others run the loop and nothing else.

    Args:
        workers: W, how many processes.
        rank: which of them this one is.
    """

    apart = True  # whether the leader can write a checkpoint by itself, after it left the others

    def __init__(self, *, workers: int, rank: int = 0) -> None:
        self.workers, self.rank = workers, rank
        self.shared: Any = None  # what ties a worker to the leader, which gives it

    def environments(self, num_envs: int) -> int:
        """How many of a config's environments this process has."""
        return num_envs

    def episodes(self, episodes: int) -> int:
        """How many of a config's episodes a rollout this process collects."""
        return episodes

    def seed(self, seed: int) -> int:
        """The seed of this process's generators and environments: the leader's is the run's own."""
        return int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]) if self.rank else seed

    def check(self, algorithm: Algorithm) -> None:
        """Raise UserError where these processes can't learn this algorithm together."""

    def take(self, algorithm: Algorithm, collector: Collector, memory: Memory) -> None:
        """Take this process's parts, once all are there.

        Raises:
            UserError: the processes can't share what they hold.
        """

    def clock(self, total_steps: int) -> Clock:
        """A clock that counts what all processes do."""
        return Clock(total_steps)

    @contextmanager
    def at_work(self, algorithm: Algorithm, settings: dict[str, Any], clock: Clock) -> Iterator[Sequence[Hook]]:
        """While the loop runs: the processes are there, made by `settings` (the config as plain values), and tied
        together; -> what watches them. None is left behind.
        """
        yield ()

    def gather(self, algorithm: Algorithm) -> None:
        """Before a checkpoint: bring here what others hold of the algorithm, so that this process's is the whole."""

    def snapshot(self) -> list[dict[str, Any]]:
        """What the other processes need to go on from here, as tensors and plain values; [] where nothing is kept."""
        return []

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Put a snapshot back, before the loop."""


def afresh(settings: dict[str, Any], steps: int) -> dict[str, Any]:
    """The settings of workers that begin at this step of the run: with other episodes and draws than at its start."""
    seed = settings["seed"]
    return {**settings, "seed": int(np.random.SeedSequence([seed, steps]).generate_state(1)[0]) if steps else seed}


def own(name: str) -> bool:
    """Whether a tensor of an algorithm, by its name, is of single environments and so stays with its process."""
    return name.endswith("carry")


def check_gradient_steps(algorithm: Algorithm, parallel: str) -> None:
    """Raise UserError where parameters move by more than gradient steps."""
    stepped = {id(p) for step in algorithm.steps().values() for p in step.parameters}
    if any(p.requires_grad and id(p) not in stepped for p in algorithm.parameters()):
        raise UserError(
            f"{type(algorithm).__name__} moves parameters by more than gradients, which parallel={parallel} can't "
            "share: use parallel=ddp, or an algorithm of gradient steps"
        )


class Alone(Team):
    """`parallel=none`.

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
