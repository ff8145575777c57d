"""Measure PPO on a GPU with its environments there: steps a second, and seconds to a solved CartPole.

    python scripts/gpu_ppo.py --out /tmp/ppo.csv
    python scripts/gpu_ppo.py --out /tmp/ppo.csv --envs 1024,4096 --peer 'python gpu_limit.py'
    python scripts/gpu_ppo.py --out /tmp/ppo.csv --device cpu --envs 64 --scale 0.006      # to try it without a GPU

For each number of environments there are two runs of 32 steps, 4 epochs and 4 minibatches a rollout: one of a fixed
length, with evaluations, curves and checkpoints, and one until an evaluation of 100 episodes returns 475 on average,
timed from the start of the loop. Without --device cpu all four numbers take less than five minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from gpu_runs import Line, arguments, check_device, finish, peer, timed

# by number of environments: steps of the run that is timed; between two evaluations, and at most, of the other one
STEPS = {64: (1e6, 5e4, 2e6), 1_024: (1e7, 6e5, 3e7), 4_096: (3e7, 2e6, 1e8), 65_536: (8e7, 2e7, 4e8)}
RECIPE = (
    *(
        "algo=ppo",
        "env=cartpole",
        "tuned=none",
        "env.backend=tensor",
        "network.hidden=[64,64]",
        "matmul_precision=high",
    ),
    *("algo.rollout=32", "algo.epochs=4", "algo.gamma=0.98", "algo.advantage.lambda_=0.8", "algo.clip_range=0.2"),
    *("algo.clip_schedule=constant", "algo.entropy_coef=0", "optimizer.lr=1e-3", "optimizer.schedule=constant"),
    *("eval.episodes=100", "eval.num_envs=100", "eval.final_episodes=0", "log.diff=false"),
)
SOLVED = 475.0


def main() -> int:
    """Run it all."""
    parser = arguments(__doc__.splitlines()[0], 60)
    parser.add_argument("--out", type=Path, required=True, help="the CSV that is written")
    parser.add_argument("--envs", default="64,1024,4096,65536", help="numbers of environments, of these")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the runs' lengths (1)")
    parser.add_argument("overrides", nargs="*", help="as on pgrun's command line, for every run")
    args = parser.parse_intermixed_args()
    check_device(args.device)
    envs = [int(n) for n in args.envs.split(",")]
    if unknown := [n for n in envs if n not in STEPS]:
        parser.error(f"--envs {unknown[0]} is not known; choose from {', '.join(map(str, STEPS))}")
    return finish(lines(envs, args.scale, args.device, args.overrides, args.seconds, args.peer), args.out)


def lines(
    envs: list[int], scale: float, device: str, overrides: list[str], seconds: int, peers: list[str]
) -> Iterator[Line]:
    """Run what is asked for; yield the table's lines."""
    for n in envs:
        steps, between, most = (int(x * scale) for x in STEPS[n])
        words = [*RECIPE, f"num_envs={n}", f"algo.minibatch={n * 8}", f"device={device}"]
        words += [f"graph={str(device == 'cuda').lower()}", *overrides]
        whole = [*words, f"total_steps={steps}", f"eval.every={max(steps // 4, 1)}"]
        whole += [f"checkpoint.every={max(steps // 4, 1)}", f"log.every={max(steps // 50, 1)}"]
        yield timed(f"{n} environments", whole, seconds)
        goal = [*words, f"total_steps={most}", f"eval.every={max(between, 1)}", f"eval.stop_at={SOLVED:g}"]
        goal += ["checkpoint.every=null", f"log.every={max(between, 1)}"]
        yield timed(f"{n} environments, to {SOLVED:g}", goal, seconds, SOLVED)
    for command in peers:
        yield peer(command, seconds)


if __name__ == "__main__":
    sys.exit(main())
