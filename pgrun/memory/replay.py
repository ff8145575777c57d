"""Replay of single transitions, sampled uniformly.

Shapes: B environments, L time rows of them in the ring, N = L·B transitions; M rows a sample.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from pgrun.config.ranges import Count, CountOrZero, Fraction
from pgrun.data.types import Transition, VectorEnv, map_transition, width
from pgrun.errors import UserError
from pgrun.memory.ring import Ring
from pgrun.system.free_memory import free_memory, shown

log = logging.getLogger("pgrun")

LARGE = 1024  # bytes; a larger observation is kept once, not twice
AT_ONCE = 4_000_000  # the most bytes gathered for several samples at once


class Replay:
    """The last transitions, sampled uniformly with torch's global generator.

    A sample's rows [M] are n-step: `reward` is Σ_{k<m} γ^k r_k, `discount` is γ^{m−1}, or 0 where the MDP terminated,
    and `next_obs` the true successor of the window's last step, so that r + γ · discount · Q(next_obs) is the target.
    The window has m ≤ n steps: it ends where an episode does, and at the newest row.

    Args:
        capacity: N, rows kept, of all environments together; rows between episodes take room but are never sampled.
        batch_size: rows a sample, M.
        warmup: environment steps before the first update.
        updates: samples, and so updates, after each rollout.
        n_step: rewards summed up before a target bootstraps; fewer at an episode's end.
        gamma: γ of the n-step returns.
        save: put the ring into checkpoints.
        device: where the ring lies; samples go to `learn_device`.

    Raises:
        UserError: the ring does not fit into the free memory.
    """

    offers = "steps"

    def __init__(
        self,
        *,
        capacity: Count,
        batch_size: Count,
        warmup: CountOrZero,
        updates: Count,
        n_step: Count,
        gamma: Fraction,
        save: bool,
        device: str,
        env: VectorEnv,
        learn_device: str,
    ) -> None:
        self.num_envs = env.num_envs
        self.length = capacity // self.num_envs
        if self.length < n_step:
            raise UserError(
                f"memory.capacity={capacity} has no room for {n_step} steps of {self.num_envs} environments; "
                f"use memory.capacity={n_step * self.num_envs} or more"
            )
        self.batch_size, self.warmup, self.updates = batch_size, warmup, updates
        self.n_step, self.gamma, self.save = n_step, gamma, save
        self.device, self.learn_device = torch.device(device), torch.device(learn_device)
        self.once = size_of(env.obs_space) >= LARGE
        self.row_bytes = self.bytes_per_row(env)
        self.note = self.check_room()
        self.ring: Ring | None = None
        self.seen = self.forgotten = 0  # transitions ever added; those that a checkpoint left out

    def bytes_per_row(self, env: VectorEnv) -> int:
        """Return the bytes of one transition."""
        obs, space = size_of(env.obs_space), env.action_space
        joint = isinstance(space, gym.spaces.Dict)
        action, agents = (4 * width(space), len(space)) if joint else (size_of(space), 1)  # type: ignore[arg-type]
        # 8 bytes an agent for reward and discount, 5 for end and valid; 8 for the successor's place in the ring
        return (obs + 8 if self.once else 2 * obs) + action + 8 * agents + 5

    def share(self, processes: int, here: int) -> None:
        """Check that the memories of several processes fit together; each has its part of the run's steps.

        Args:
            processes: in the run.
            here: how many of them are on this machine.

        Raises:
            UserError: they don't fit.
        """
        self.note = self.check_room(here)

    def check_room(self, processes: int = 1) -> str:
        """Return a line that says how large the ring will be.

        Raises:
            UserError: there is less free memory.
        """
        rows, free = self.length * self.num_envs, free_memory(self.device)
        size = rows * self.row_bytes
        line = f"replay: {rows:,} × {self.row_bytes:,} bytes = {shown(size)}"
        if processes > 1:
            line += f" in each of {processes} processes"
        if free is not None and size * processes > free:
            fits = max(free // (self.row_bytes * processes), 1)
            digits = 10 ** (len(str(fits)) - 1)
            raise UserError(
                f"memory.capacity={rows} does not fit: {line}, but {shown(free)} are free on {self.device}; "
                f"use memory.capacity={fits // digits * digits} or less"
            )
        return line

    def add(self, rollout: Transition) -> None:
        """Add a rollout [T, B, ...]."""
        t, b = rollout.valid.shape
        if b != self.num_envs:
            raise UserError(f"a replay of {self.num_envs} environments can't take {b} columns; use collector=rollouts")
        if t > self.length:
            self.seen += int(rollout.valid[: -self.length].sum())
            rollout = map_transition(lambda x: x[-self.length :], rollout)
        if rollout.reward.device != self.device:
            rollout = map_transition(lambda x: x.to(self.device), rollout)
        if self.ring is None:
            self.ring = self.make_ring(rollout)
        self.seen += self.ring.add(rollout)

    def make_ring(self, like: Transition) -> Ring:
        """Make an empty ring for rollouts like this one."""
        return Ring(like, length=self.length, n=self.n_step, gamma=self.gamma, once=self.once)

    def figures(self) -> dict[str, float]:
        """Return how full it is, for a curve: the share of its capacity."""
        return {"fill": 0.0 if self.ring is None else self.ring.filled / self.length}

    @property
    def ready(self) -> bool:
        """True if there is enough to learn from."""
        return self.ring is not None and self.ring.size > 0 and self.seen - self.forgotten >= self.warmup

    def batches(self) -> Iterator[Transition]:
        """Yield `updates` samples [M, ...]."""
        if not self.ready:
            return
        assert self.ring is not None
        at_once = max(AT_ONCE // (self.batch_size * self.row_bytes), 1)
        for start in range(0, self.updates, at_once):
            k = min(at_once, self.updates - start)
            rank = torch.randint(self.ring.size, (k * self.batch_size,), device=self.device)
            yield from self.ring.gather(self.ring.locate(rank), k, self.learn_device)

    def snapshot(self) -> dict[str, Any]:
        """Return the ring, if it is to be saved, and the counts; see `Memory.snapshot`."""
        ring = self.ring.snapshot() if self.ring is not None and self.save else None
        return {"ring": ring, "seen": self.seen, "forgotten": self.forgotten}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot; see `Memory.restore`."""
        self.seen, self.forgotten = state["seen"], state["forgotten"]
        if state["ring"] is not None:
            like = Transition(**state["ring"]["like"])
            self.ring = self.make_ring(map_transition(lambda x: x.to(self.device), like))
            self.ring.restore(state["ring"])
        elif self.seen:
            self.forgotten = self.seen
            log.info(
                "the replay starts empty, because memory.save=false left it out of the checkpoint: it fills again "
                "before anything is learnt, and the run is no longer the one that it would have been"
            )


def size_of(space: gym.Space) -> int:
    """Return the bytes of an observation or action in tensors."""
    if isinstance(space, gym.spaces.Dict):
        return sum(size_of(part) for part in space.values())
    if isinstance(space, gym.spaces.Box):
        return math.prod(space.shape) * np.dtype(space.dtype).itemsize  # type: ignore[arg-type]
    if isinstance(space, gym.spaces.MultiBinary):
        return 4 * math.prod(space.shape)
    return 8 * math.prod(space.shape or ())
