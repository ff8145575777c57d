"""Measure how fast a chief's updates come when one worker is slow.

    python scripts/dppo_stragglers.py --workers 3 --seconds 60

Four runs of DPPO on CartPole: with no slow worker or with the last one ten times slower, and with a chief that waits
for all W gradients or for W − 1. Each run prints a line: updates per second (gradient steps that the chief took), and
the shares of dropped gradients. The slow worker sleeps nine times as long as it works: so its own pace is a tenth
whatever the others do, and its core is free.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import hydra
from torch import Tensor

from pgrun.collect.rollouts import Rollouts
from pgrun.config.paths import config_dir
from pgrun.config.resolve import resolved
from pgrun.data.policy import Policy
from pgrun.data.types import Transition
from pgrun.loop.train import Clock, train
from pgrun.parallel.ray.actors import RayActors
from pgrun.run.build import build
from pgrun.sweep.resolvers import register_resolvers


class SlowRollouts(Rollouts):
    """Rollouts that make one of the workers slower.

    Args:
        slow_rank: that worker's rank; None: no worker is slow.
        factor: how many times slower it is.
    """

    def __init__(self, *, slow_rank: int | None, factor: float, rank: int = 0, **common: Any) -> None:
        super().__init__(**common)
        self.pause = factor - 1.0 if rank == slow_rank else 0.0
        self.begin: float | None = None

    def collect(self, algorithm: Policy) -> Transition | None:
        self.begin = self.begin or time.monotonic()
        rollout = super().collect(algorithm)
        if self.pause:  # by what this rollout and the update before it took
            time.sleep(self.pause * (time.monotonic() - self.begin))
            self.begin = time.monotonic()
        return rollout


class Pace:
    """A hook that measures the chief's steps per second after a warm-up, and then ends the run."""

    def __init__(self, crew: RayActors, warmup: float, seconds: float) -> None:
        self.crew, self.start, self.seconds = crew, time.monotonic() + warmup, seconds
        self.first: tuple[float, dict[str, Any]] | None = None
        self.last: tuple[float, dict[str, Any]] | None = None

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        now = time.monotonic()
        if now < self.start:
            return
        self.last = time.monotonic(), self.crew.line.call("status")
        self.first = self.first or self.last
        if now > self.start + self.seconds:
            clock.stop = "measured"

    def figures(self) -> dict[str, Any]:
        """Return updates per second, and each worker's share of dropped gradients."""
        assert self.first is not None
        assert self.last is not None
        (t0, before), (t1, after) = self.first, self.last
        taken = sum(after["taken"].values()) - sum(before["taken"].values())
        dropped = {rank: after["dropped"][rank] / max(after["received"][rank], 1) for rank in after["received"]}
        return {"updates_per_second": taken / (t1 - t0), "dropped": dropped}


def measure(*overrides: str, warmup: float, seconds: float) -> dict[str, Any]:
    """Run once, and return the figures."""
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        words = [
            "algo=dppo",
            "env=cartpole",
            "total_steps=1000000000",
            "collector._target_=dppo_stragglers.SlowRollouts",
        ]
        config = resolved(hydra.compose("config", overrides=[*words, *overrides]))
    parts = build(config)
    clock = parts.team.clock(config.total_steps)
    try:
        with parts.team.at_work(parts.algorithm, parts.settings, clock) as watches:
            pace = Pace(watches[0].__self__, warmup, seconds)  # type: ignore[attr-defined]
            train(parts.algorithm, parts.collector, parts.memory, clock, [pace])
    finally:
        parts.collector.env.close()
    return pace.figures()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=3, help="W")
    parser.add_argument("--factor", type=float, default=10.0, help="how much slower the slow one is")
    parser.add_argument("--warmup", type=float, default=10.0, help="seconds before measuring begins")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds that are measured, of each run")
    options = parser.parse_args()
    w, base = options.workers, None
    print(f"DPPO on CartPole, {w} workers, {options.seconds:.0f} s each")
    for wait_for in (w, w - 1):
        for slow in (None, w - 1):
            found = measure(
                f"workers={w}",
                f"parallel.wait_for={wait_for}",
                f"+collector.slow_rank={'null' if slow is None else slow}",
                f"+collector.factor={options.factor}",
                warmup=options.warmup,
                seconds=options.seconds,
            )
            pace = found["updates_per_second"]
            base = base or pace  # all there, nobody slow
            each = ", ".join(f"worker {rank} {share:.0%}" for rank, share in sorted(found["dropped"].items()))
            who = "nobody slow" if slow is None else f"worker {slow} slow"
            print(f"D={wait_for}  {who:14s} {pace:7.1f} updates/s  {pace / base:5.0%}   dropped: {each}", flush=True)


if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parent))  # the workers import it by its name
    main()
