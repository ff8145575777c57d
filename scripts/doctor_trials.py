"""Give `pgrun doctor` runs with a known fault, and healthy ones, and count what it names.

    python scripts/doctor_trials.py --runs /tmp/doctor --csv scripts/results/doctor.csv

Each fault is made in two environments, and 20 healthy runs are five algorithms in four environments; no threshold was
chosen with any of them. With `--tuning` the runs are those that the thresholds were chosen with. A run that is there
is not trained again; what the doctor says of it is.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pgrun

COMMON = ("log.every=500", "eval.episodes=5", "eval.final_episodes=5", "checkpoint.every=null", "device=cpu")
ON_POLICY = ("total_steps=8_000", "eval.every=2_000")
SMALL = ("network.hidden=[64,64]", "memory.batch_size=64")
OFF_POLICY = ("total_steps=3_000", "eval.every=1_000", "memory.warmup=500", "memory.capacity=10_000", *SMALL)
ENVS = {
    "acrobot": ("env=acrobot", "tuned=none"),
    "cartpole": ("env=cartpole",),
    "pendulum": ("env=pendulum",),
    "mountain": ("env=mountain_car_continuous",),
    "cheetah": ("env=halfcheetah",),
    **{
        name: ("env=gym", f"env.id={env_id}")
        for name, env_id in {
            "pole": "InvertedPendulum-v5",
            "double": "InvertedDoublePendulum-v5",
            "reacher": "Reacher-v5",
        }.items()
    },
}


@dataclass(frozen=True)
class Case:
    """A run whose fault is known."""

    fault: str  # the finding that is to be named; "" where the run is healthy
    algo: str
    env: str
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name the case's folder."""
        return f"{self.fault or 'healthy'}_{self.algo}_{self.env}"

    def command(self) -> list[str]:
        """Return the words that begin its run."""
        short = OFF_POLICY if self.algo in ("sac", "td3") else ON_POLICY
        return [f"algo={self.algo}", *ENVS[self.env], *COMMON, *short, *self.words]


def wrap(name: str, setting: str) -> str:
    """Write an environment's wrapper as a word of the command line."""
    return f"env.wrappers=[{{_target_: doctor_faults.{name}, {setting}}}]"


# By finding: the algorithm, the words that make the fault, and the environments: two of the trial, one of the tuning.
FAULTS: tuple[tuple[str, str, tuple[str, ...], tuple[str, str], str], ...] = (
    ("rewards-constant", "ppo", (wrap("Rewards", "scale: 0.0"),), ("pole", "acrobot"), "cartpole"),
    ("rewards-tiny", "sac", (wrap("Rewards", "scale: 1.0e-6"),), ("pole", "reacher"), "pendulum"),
    (
        *("rewards-huge", "a2c", (wrap("Rewards", "scale: 1.0e+4"), "algo.normalize_reward=false")),
        *(("pole", "acrobot"), "cartpole"),
    ),
    (
        *("time-limit-as-death", "ppo", (wrap("Ends", "dies: true"), "env.max_episode_steps=60")),
        *(("reacher", "acrobot"), "cartpole"),
    ),
    ("death-as-time-limit", "ppo", (wrap("Ends", "dies: false"),), ("pole", "double"), "cartpole"),
    ("actions-at-bounds", "ppo", ("network.log_std_init=3.0",), ("reacher", "cheetah"), "pendulum"),
    ("entropy-collapsed", "ppo", ("network.log_std_init=-7.0",), ("reacher", "pole"), "pendulum"),
    ("entropy-never-falls", "ppo", ("algo.entropy_coef=10.0",), ("acrobot", "pole"), "cartpole"),
    ("learning-rate-high", "ppo", ("optimizer.lr=0.3",), ("acrobot", "reacher"), "cartpole"),
    ("learning-rate-low", "ppo", ("optimizer.lr=1e-8",), ("acrobot", "pole"), "cartpole"),
    (
        *("value-explodes", "td3", ("algo.tau=1.0", "optimizer.lr=1e-2", "algo.gamma=1.0", "algo.critics=1")),
        *(("reacher", "cheetah"), "pendulum"),
    ),
    ("critic-never-fits", "ppo", ("algo.value_coef=0.0",), ("pole", "acrobot"), "cartpole"),
    ("replay-never-fills", "sac", ("memory.warmup=1_000_000",), ("pole", "reacher"), "pendulum"),
    (
        *("observations-unscaled", "ppo", (wrap("Observations", "scale: 1000.0"), "network.normalize_obs=false")),
        *(("pole", "reacher"), "cartpole"),
    ),
    (
        *("evaluation-unlike-training", "ppo", (f"eval.{wrap('Observations', 'scale: -1.0')}", "total_steps=24_000")),
        *(("pole", "double"), "cartpole"),
    ),
)
HEALTHY = (("ppo", "a2c", "trpo", "npg", "td3"), ("pole", "double", "reacher", "cheetah"), ("cartpole", "pendulum"))
LONGER = {  # what a recipe needs here to be on its way
    "ppo": ("total_steps=24_000", "eval.every=6_000"),
    "a2c": ("total_steps=40_000", "eval.every=10_000"),
    "trpo": ("total_steps=40_000", "eval.every=10_000"),
    "npg": ("total_steps=40_000", "eval.every=10_000"),
    "td3": ("total_steps=5_000", "eval.every=1_250", "memory.warmup=1_000"),
}
HARDER = {  # ... and where it takes longer to be on one's way
    **dict.fromkeys(
        [("ppo", "cheetah"), ("a2c", "cheetah"), ("trpo", "cheetah"), ("npg", "cheetah"), ("ppo", "reacher")],
        ("total_steps=150_000", "eval.every=30_000", "log.every=5_000"),
    ),
    ("td3", "cheetah"): ("total_steps=15_000", "eval.every=3_000", "memory.warmup=1_000", "memory.capacity=100_000"),
}


def cases(tuning: bool) -> list[Case]:
    """List all cases of the trial, or of the tuning."""
    faulty = [
        Case(fault, algo, env, words)
        for fault, algo, words, trial, tuned in FAULTS
        for env in ([tuned] if tuning else trial)
    ]
    algos, envs, tuned_envs = HEALTHY
    healthy = [
        Case("", algo, env, HARDER.get((algo, env), LONGER[algo]))
        for algo in algos
        for env in (tuned_envs if tuning else envs)
        if (algo, env) != ("td3", "cartpole")
    ]
    return faulty + healthy


def train(case: Case, folder: Path) -> float:
    """Train a case's run unless it is there; return the seconds."""
    place, begin = folder / case.name, time.perf_counter()
    if (place / "result.json").exists():
        return 0.0
    try:
        pgrun.train(*case.command(), f"hydra.run.dir={place}", config_dir=None, quiet=True)
    except pgrun.Diverged as error:
        print(f"  {case.name}: {error}", file=sys.stderr)
    return time.perf_counter() - begin


def judge(case: Case, folder: Path) -> dict[str, object]:
    """Ask the doctor about a run; return a row of the table."""
    begin = time.perf_counter()
    named = [finding.rule for finding in pgrun.doctor(folder / case.name).findings]
    seconds = time.perf_counter() - begin
    right = case.fault in named if case.fault else not named
    return {
        **{"fault": case.fault or "none", "algo": case.algo, "env": case.env},
        **{"named": " ".join(named), "right": right, "seconds": round(seconds, 2)},
    }


def main() -> int:
    """Train and judge every case; print the count, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("only", nargs="*", help="parts of the cases' names; all where none is given")
    parser.add_argument("--runs", type=Path, required=True, help="where the runs go: outside the repository")
    parser.add_argument("--csv", type=Path, help="where the table goes")
    parser.add_argument("--tuning", action="store_true", help="the runs that the thresholds were chosen with")
    parser.add_argument("--train-only", action="store_true", help="don't judge")
    parser.add_argument("--judge-only", action="store_true", help="don't train; judge the runs that are there")
    args = parser.parse_args()
    chosen = [c for c in cases(args.tuning) if not args.only or any(word in c.name for word in args.only)]
    for case in [] if args.judge_only else chosen:
        if seconds := train(case, args.runs.absolute()):
            print(f"trained {case.name} in {seconds:.0f} s", flush=True)
    if args.train_only:
        return 0
    there = [case for case in chosen if (args.runs / case.name / "result.json").exists()]
    rows = [judge(case, args.runs) for case in there]
    if not rows:
        parser.error(f"no run of these is in {args.runs}")
    for row in rows:
        print("  ".join(str(value) for value in row.values()))
    faulty, healthy = ([row for row in rows if (row["fault"] == "none") is kind] for kind in (False, True))
    print(f"named: {sum(bool(row['right']) for row in faulty)} of {len(faulty)} faults;", end=" ")
    print(f"nothing found: {sum(bool(row['right']) for row in healthy)} of {len(healthy)} healthy runs")
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
    return int(not all(row["right"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
