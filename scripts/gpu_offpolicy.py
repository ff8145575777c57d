"""Measure SAC and TD3 on a GPU: HalfCheetah-v5, one environment on the CPU, batches of 256; steps a second.

    python scripts/gpu_offpolicy.py --out /tmp/offpolicy.csv
    python scripts/gpu_offpolicy.py --out /tmp/offpolicy.csv --algos td3 --peer 'python leanrl_td3.py'
    python scripts/gpu_offpolicy.py --out /tmp/offpolicy.csv --device cpu --steps 40 --warmup 20    # without a GPU

Each algorithm runs eager, compiled, by graphs, and compiled by graphs: one update for each step. Without --device cpu
all of it takes less than five minutes. Steps a second are of the whole run, its random steps among them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from gpu_runs import Line, arguments, check_device, finish, peer, timed

RECIPE = (
    *("env=halfcheetah", "tuned=none", "num_envs=1", "env.backend=sync", "network.hidden=[256,256]"),
    *("memory.batch_size=256", "memory.updates=1", "memory.capacity=100000", "algo.rollout=1"),
    *("eval.every=null", "eval.final_episodes=0", "checkpoint.every=null", "log.diff=false"),
)
WAYS = {
    "eager": ("compile=false", "graph=false"),
    "compiled": ("compile=true", "graph=false"),
    "by graphs": ("compile=false", "graph=true"),
    "compiled, by graphs": ("compile=true", "graph=true"),
}


def main() -> int:
    """Run it all."""
    parser = arguments(__doc__.splitlines()[0], 90)
    parser.add_argument("--out", type=Path, required=True, help="the CSV that is written")
    parser.add_argument("--algos", default="sac,td3", help="of sac and td3")
    parser.add_argument("--steps", type=int, default=5_000, help="environment steps of a run (5,000)")
    parser.add_argument("--warmup", type=int, default=500, help="random steps before the first update (500)")
    parser.add_argument("overrides", nargs="*", help="as on pgrun's command line, for every run")
    args = parser.parse_intermixed_args()
    check_device(args.device)
    shared = [*RECIPE, f"total_steps={args.steps}", f"memory.warmup={args.warmup}", f"device={args.device}"]
    if args.device == "cuda":
        shared.append("memory.device=cuda")
    return finish(
        lines(args.algos.split(","), [*shared, *args.overrides], args.device, args.seconds, args.peer), args.out
    )


def lines(algos: list[str], shared: list[str], device: str, seconds: int, peers: list[str]) -> Iterator[Line]:
    """Run what is asked for; yield the table's lines."""
    for algo in algos:
        for way, words in WAYS.items():
            if device == "cuda" or "graph=true" not in words:
                yield timed(f"{algo} {way}", [f"algo={algo}", *shared, *words], seconds)
    for command in peers:
        yield peer(command, seconds)


if __name__ == "__main__":
    sys.exit(main())
