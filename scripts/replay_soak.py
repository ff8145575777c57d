"""Check that a replay keeps its stated size: fill it, sample for minutes, and print the process's memory.

    python scripts/replay_soak.py --minutes 30                       # a million transitions of vectors
    python scripts/replay_soak.py --minutes 30 --kind image --capacity 50000
    python scripts/replay_soak.py --minutes 30 --memory prioritized --n-step 3

The exit code is 1 if memory grew by more than 2 % (and 20 MB) after the ring was full, or the ring is larger than
stated.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import torch

from pgrun.data.types import Transition
from pgrun.memory.prioritized import Prioritized
from pgrun.memory.replay import Replay
from pgrun.system.free_memory import shown

SPACES: dict[str, gym.spaces.Box] = {
    "vector": gym.spaces.Box(-1.0, 1.0, (17,), np.float32),
    "image": gym.spaces.Box(0, 255, (4, 84, 84), np.uint8),
}
COMMON = {"batch_size": 64, "warmup": 0, "updates": 8, "gamma": 0.99, "save": True, "device": "cpu"}


class Source:
    """Makes rollouts of episodes of random length, each followed by a new one at once.

    So separately kept successors come and go.
    """

    def __init__(self, space: gym.spaces.Box, b: int, t: int) -> None:
        self.space, self.b, self.t = space, b, t
        self.obs = self.look(b)

    def look(self, *shape: int) -> torch.Tensor:
        """Draw observations [*shape, *O]."""
        if self.space.dtype == np.uint8:
            return torch.randint(256, (*shape, *self.space.shape), dtype=torch.uint8)
        return torch.rand(*shape, *self.space.shape)

    def rollout(self) -> Transition:
        """Make a rollout [T, B, ...]."""
        next_obs = self.look(self.t, self.b)
        last = torch.rand(self.t, self.b) < 0.02
        obs = torch.cat([self.obs.unsqueeze(0), next_obs[:-1]]).clone()
        began = torch.zeros_like(last)
        began[1:] = last[:-1]
        obs[began] = self.look(int(began.sum()))
        self.obs = torch.where(last[-1].view(-1, *[1] * len(self.space.shape)), self.look(self.b), next_obs[-1])
        return Transition(
            obs=obs,
            action=torch.rand(self.t, self.b, 6),
            reward=torch.rand(self.t, self.b),
            discount=(torch.rand(self.t, self.b) < 0.99).float(),
            next_obs=next_obs,
            last=last,
            valid=torch.ones(self.t, self.b, dtype=torch.bool),
            extras={},
        )


def resident() -> int:
    """Return the bytes of memory that this process has."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * 4096


def main() -> int:
    """Fill the replay, sample from it, and watch the memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long to sample once it is full (30)")
    parser.add_argument("--capacity", type=int, default=1_000_000, help="transitions (1,000,000)")
    parser.add_argument("--kind", choices=list(SPACES), default="vector", help="what observations are (vector)")
    parser.add_argument("--memory", choices=["replay", "prioritized"], default="replay")
    parser.add_argument("--n-step", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    space, b, t = SPACES[args.kind], 8, 8 if args.kind == "image" else 128
    env = SimpleNamespace(obs_space=space, action_space=gym.spaces.Box(-1.0, 1.0, (6,), np.float32), num_envs=b)
    more = {"alpha": 0.6, "beta": 0.4, "anneal": 10 * args.capacity, "epsilon": 1e-6}
    kind, own = (Prioritized, more) if args.memory == "prioritized" else (Replay, {})
    memory = kind(capacity=args.capacity, n_step=args.n_step, env=env, learn_device="cpu", **COMMON, **own)  # type: ignore[arg-type]
    source = Source(space, b, t)
    memory.add(source.rollout())
    empty = resident()
    print(f"{memory.note}; the process has {shown(empty)} before it is filled", flush=True)

    begin = mark = time.perf_counter()
    full_at, full, rows, most = 0.0, 0, 0, 0
    while not full_at or mark - full_at < 60.0 * args.minutes:
        memory.add(source.rollout())
        rows += t * b
        for batch in memory.batches():
            if "priority" in batch.extras:
                batch.extras["priority"].copy_(batch.reward)
        now = time.perf_counter()
        if not full_at and rows > 1.1 * args.capacity:
            gc.collect()
            full_at, full = now, resident()
        if now - mark > min(10.0, 60.0 * args.minutes) or (full_at == now):
            mark, most = now, max(most, resident() if full_at else 0)
            print(f"{now - begin:7.0f} s  {rows:13,} transitions  {shown(resident())}", flush=True)
        mark = max(mark, full_at)
    stated = memory.row_bytes * memory.length * b
    grown, taken = most - full, full - empty
    print(f"stated {shown(stated)}, taken {shown(taken)}, grown since by {shown(max(grown, 0))}")
    return int(grown > max(0.02 * full, 20e6) or taken > 1.1 * stated + 50e6)


if __name__ == "__main__":
    sys.exit(main())
