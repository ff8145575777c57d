"""Measure what the shipped recipes learn: several seeds of each, summarised by IQM and a bootstrap interval.

    python scripts/learning.py --runs ~/pgrun-learning                 # every row, two processes at a time
    python scripts/learning.py --runs ~/pgrun-learning ppo-cartpole    # one row
    python scripts/learning.py --runs ~/pgrun-learning --report        # only the table of what is there

A finished run is not run again, and one that was cut off goes on from its checkpoint. So the same command can be given
until all runs are done. Recipes are chosen on seeds 100 to 199 and reported on seeds from 1000 on, which were not used
to choose. A recipe that is changed after its report takes seeds that no report has used. (Rows of seeds 0 to 9 are
older than this rule.)

The summary goes to scripts/results/learning.csv, and `python scripts/pages.py` puts it into docs/results.md. IQM: the
mean of the middle half of the seeds' final evaluation means (100 deterministic episodes each, the final policy);
interval: 95 % bootstrap over seeds.
"""

from __future__ import annotations

import argparse
import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from runs import ROOT, code_commit, execute, interval, iqm, result, train

RESULTS = ROOT / "scripts" / "results" / "learning.csv"
FIELDS = (
    *("row", "algo", "env", "steps", "seeds", "first", "iqm", "low", "high", "worst", "floor"),
    *("steps_per_second", "commit", "command"),
)


@dataclass(frozen=True)
class Row:
    """One recipe on one environment, and the figure that it must reach."""

    algo: str
    env: str
    steps: int
    floor: float | None  # None: the figure is only reported
    seeds: int = 10  # fewer where one takes over ten minutes
    first: int = 1000  # the first of them; a later one where these were seen before the recipe changed
    overrides: tuple[str, ...] = ()
    variant: str = ""  # what the overrides make of it
    demonstrations: str = ""  # the command that writes them to demos.npz, in the folder of the runs

    @property
    def name(self) -> str:
        """Return the row's name on the command line."""
        return "-".join(part for part in (self.algo, self.variant, self.env) if part)

    @property
    def numbers(self) -> list[int]:
        """Return the seeds."""
        return list(range(self.first, self.first + self.seeds))

    @property
    def command(self) -> str:
        """Return the command that reproduces one seed."""
        words = ["pgrun", f"algo={self.algo}", f"env={self.env}", f"total_steps={self.steps}", *self.overrides]
        return " ".join([*words, *(["demonstrations=demos.npz"] if self.demonstrations else [])])


ROWS = [
    Row("reinforce", "cartpole", 300_000, 450),
    Row("reinforce", "cartpole", 300_000, 475, overrides=("algo/baseline=value",), variant="value"),
    Row("reinforce", "cartpole200", 300_000, 190),
    Row("vpg", "cartpole", 500_000, 475),
    Row("actor_critic", "cartpole", 500_000, 450),
    Row("a2c", "cartpole", 500_000, 475, first=1010),
    Row("a2c", "cartpole", 150_000, 475, first=1020, variant="short"),
    Row("a2c", "acrobot", 500_000, -95),
    Row(
        *("a2c", "pendulum", 1_000_000, -200),
        **{"first": 1020, "overrides": ("algo/advantage=gae", "compile=true", "env.backend=tensor"), "variant": "gae"},  # type: ignore[arg-type]
    ),
    Row("npg", "cartpole", 200_000, 475),
    Row("trpo", "cartpole", 100_000, 475),
    Row("trpo", "acrobot", 100_000, None),
    Row("trpo", "pendulum", 200_000, -200, first=1010),
    Row("ppo", "cartpole", 100_000, 490, first=1010),
    Row("ppo", "acrobot", 1_000_000, -85, seeds=5),
    Row("ppo", "pendulum", 100_000, -200),
    Row("ppo", "lunar_lander", 1_000_000, 220, seeds=3),
    Row("ppo", "halfcheetah", 1_000_000, 4_500, seeds=5, first=1100, overrides=("compile=true",)),
    Row("ppo", "swimmer", 1_000_000, 100, seeds=5, first=1010, overrides=("compile=true",)),
    Row("ppo", "walker2d", 1_000_000, None, seeds=5, overrides=("compile=true",)),
    Row("ppo", "ant", 1_000_000, None, seeds=5, overrides=("compile=true",)),
    Row("ppo_kl", "cartpole", 200_000, 475, first=1010),
    Row("ppo", "cartpole_pomdp", 125_000, 400, overrides=("network=lstm",), variant="lstm"),
    Row("ppo", "cartpole_pomdp", 125_000, 400, overrides=("network=gru",), variant="gru"),
    Row("grpo", "cartpole", 500_000, 475),
    Row("grpo", "contextual_bandit", 20_000, 0.99),
    Row("mdpo", "cartpole", 300_000, 475),
    Row("vmpo", "cartpole", 200_000, 475),
    Row("acktr", "cartpole", 300_000, 475),
    Row("offpolicy_pg", "cartpole", 500_000, 450),
    Row("acer", "cartpole", 200_000, 475),
    Row("acer", "pendulum", 200_000, None),
    Row(
        *("behaviour_cloning", "cartpole", 500_000, 400),
        demonstrations="pgrun eval ppo-cartpole/s1010 --episodes 50 --record demos.npz",  # after the row ppo-cartpole
    ),
    Row("reinforce", "sparse_reach", 20_000, None),
    Row(
        *("gps", "sparse_reach", 20_000, 0.99),
        demonstrations=f"python {ROOT}/scripts/make_demonstrations.py demos.npz --episodes 5",
    ),
    Row("mdpo_offpolicy", "pendulum", 20_000, None),
    *(
        Row(algo, env, 1_000_000, floor, seeds=5, first=first, overrides=("compile=true",))
        for env, algo, floor, first in (
            ("halfcheetah", "trpo", 4_000, 1000),
            ("halfcheetah", "npg", 4_000, 1000),
            ("hopper", "ppo", 2_600, 1000),
            ("hopper", "trpo", 2_600, 1010),
            ("hopper", "npg", 2_600, 1000),
        )
    ),
    *(Row("mdpo", env, 1_000_000, None, seeds=3) for env in ("halfcheetah", "hopper")),
    *(
        Row(
            *("a2c", env, 1_000_000, floor),
            **{"seeds": 5, "first": 1010, "overrides": ("algo/advantage=gae", "compile=true"), "variant": "gae"},  # type: ignore[arg-type]
        )
        for env, floor in (("halfcheetah", 2_500), ("hopper", 1_250))
    ),
    Row("dqn", "cartpole", 100_000, 475, first=1010),
    Row("dpg", "lqr", 200_000, None),
    Row("dpg_offpolicy", "lqr", 200_000, None),
    Row("dpg", "pendulum", 200_000, None),
    Row("dpg_offpolicy", "pendulum", 200_000, None),
    Row("ddpg", "pendulum", 20_000, -175),
    Row("td3", "pendulum", 20_000, -175),
    Row("d4pg", "pendulum", 30_000, -175),
    Row("sql", "pendulum", 30_000, -250),
    Row("sac_v1", "pendulum", 20_000, -175),
    Row("sac", "pendulum", 20_000, -170),
    Row("redq", "pendulum", 5_000, -170),
    *(
        Row(algo, "pendulum", 20_000, floor, overrides=("matmul_precision=bfloat16",), variant="bfloat16")
        for algo, floor in (("ddpg", -175), ("td3", -175), ("sac", -170))
    ),
    Row("sac_discrete", "cartpole", 100_000, 475, seeds=5),
    Row("sac", "mountain_car_continuous", 50_000, 90),
    Row("sac", "lunar_lander_continuous", 400_000, 230, seeds=3, overrides=("compile=true",)),
    Row(
        *("sac", "pendulum_pomdp", 40_000, -250),
        **{"overrides": ("network=gru", "memory=sequences"), "variant": "gru"},  # type: ignore[arg-type]
    ),
    Row("sac", "pendulum_pomdp", 40_000, None),  # without a memory, for comparison
    Row(
        *("dqn", "cartpole_pomdp", 100_000, 400),
        **{"seeds": 5, "first": 1005, "overrides": ("network=lstm", "memory=sequences"), "variant": "lstm"},  # type: ignore[arg-type]
    ),
    *(
        Row("ppo", env, steps, None, seeds, overrides=(*more, f"network.std={std}"), variant=std)
        for env, steps, seeds, more in (
            ("pendulum", 100_000, 5, ()),
            ("halfcheetah", 1_000_000, 3, ("tuned=ppo_hopper",)),  # HalfCheetah's own begins with a narrow policy
        )
        for std in ("global", "state")
    ),
    Row("a3c", "cartpole", 500_000, 475, first=1010),
    Row("dppo", "cartpole", 200_000, 475),
    *(
        Row(algo, env, 200_000, None)
        for env in ("simple_speaker_listener", "simple_spread", "simple_tag")
        for algo in ("maddpg", "iddpg")
    ),
    Row("td3", "halfcheetah", 1_000_000, 9_000, seeds=1, overrides=("compile=true",)),
    Row("sac", "halfcheetah", 1_000_000, 9_500, seeds=1, overrides=("compile=true",)),
]


def main() -> int:
    """Run missing seeds, then write and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help=f"which rows (all): {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--runs", type=Path, help="folder for the run directories")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    args.runs = args.runs and args.runs.absolute()
    if args.runs is None:
        parser.error("--runs FOLDER is needed")
    names = {row.name: row for row in ROWS}
    if unknown := [name for name in args.rows if name not in names]:
        parser.error(f"unknown row {unknown[0]}; choose from {', '.join(names)}")
    rows = [names[name] for name in args.rows] or ROWS
    if not args.report:
        jobs = [(row, seed) for row in rows for seed in row.numbers]
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda job: run(args.runs, *job), jobs))
    return summarise(args.runs)


def run(folder: Path, row: Row, seed: int) -> None:
    """Start or resume one seed of a row."""
    here = folder / row.name
    if row.demonstrations and not (here / "demos.npz").exists():
        here.mkdir(parents=True, exist_ok=True)
        made = execute(row.demonstrations.replace("demos.npz", str(here / "demos.npz")).split(), folder)
        if made.returncode:
            print(f"{row.name}: {made.stderr.strip()}", flush=True)
            return
    begun = here / f"s{seed}.commit"
    if not begun.exists():
        here.mkdir(parents=True, exist_ok=True)
        begun.write_text(code_commit())
    if said := train(here / f"s{seed}", [*row.command.split(), f"seed={seed}"]):
        print(f"{row.name} seed {seed}: {said}", flush=True)


def commit_of(folder: Path, row: Row) -> str:
    """Name the commits that a row's seeds were begun on."""
    files = [folder / row.name / f"s{seed}.commit" for seed in row.numbers]
    return " ".join(sorted({file.read_text() for file in files if file.exists()}))


def summarise(folder: Path) -> int:
    """Write and print the CSV. Rows that the folder lacks stay as they were.

    Returns:
        1 if a complete row misses its floor, else 0.
    """
    before = {line["row"]: line for line in read()}
    table: list[dict[str, Any]] = []
    missed = 0
    for row in ROWS:
        results = [r for seed in row.numbers if (r := result(folder / row.name / f"s{seed}"))]
        means = np.array([r["eval_return_mean"] for r in results])
        if len(means) < row.seeds:
            table += [before[row.name]] if row.name in before else []
            continue
        low, high = interval(means)
        middle = iqm(means)
        missed += row.floor is not None and middle < row.floor
        rates = [r["steps_per_second"] for r in results]
        table.append(
            {
                "row": row.name,
                "algo": row.algo,
                "env": row.env,
                "steps": row.steps,
                "seeds": row.seeds,
                "first": row.first,
                "iqm": round(middle, 1),
                "low": round(low, 1),
                "high": round(high, 1),
                "worst": round(float(means.min()), 1),
                "floor": row.floor,
                "steps_per_second": round(float(np.median(rates))),
                "commit": commit_of(folder, row),
                "command": row.command,
            }
        )
    if table:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
    for line in table:
        print(
            f"{line['row']:32} {line['iqm']:>9} [{line['low']}, {line['high']}] worst {line['worst']}"
            f" ({line['seeds']} seeds, floor {line['floor']})"
        )
    return int(missed > 0)


def read() -> list[dict[str, Any]]:
    """Read the lines of the CSV."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return [{"commit": "", **line} for line in csv.DictReader(file)]


def table() -> str:
    """Write the table of docs/results.md, from the CSV (scripts/pages.py puts it there)."""
    lines = [
        "| row | steps | seeds | IQM [interval] | worst | commit | command |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in read():
        steps = int(line["steps"])
        shown = f"{steps // 1_000_000}M" if steps % 1_000_000 == 0 else f"{steps // 1_000}k"
        figures = f"{line['iqm']} [{line['low']}, {line['high']}] | {line['worst']}"
        lines.append(
            f"| {line['row']} | {shown} | {seeds_of(line)} | {figures} | {line['commit']} | `{line['command']}` |"
        )
    return "\n".join(lines)


def seeds_of(line: dict[str, Any]) -> str:
    """Name a line's seeds."""
    first, last = int(line["first"]), int(line["first"]) + int(line["seeds"]) - 1
    return f"{first}–{last}" if last > first else f"{first}"


if __name__ == "__main__":
    sys.exit(main())
