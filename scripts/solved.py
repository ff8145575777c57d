"""Measure the seconds from the shell's return key to a solved task: the first evaluation at or above a threshold.

    python scripts/solved.py                                        # every row that this code has not run yet
    python scripts/solved.py --rows ppo-cartpole sac-pendulum       # some of them
    python scripts/solved.py --results /tmp/solved.csv --seeds 1    # to try it out

It measures time, so nothing else should run on the machine. Each seed of a row is one `pgrun … eval.stop_at=THRESHOLD`
with one thread, and an evaluation of 20 episodes now and then. What is there for the last commit that changed the code,
on this processor, is not run again. The lines, one a seed, go to scripts/results/solved.csv, and
`python scripts/pages.py` makes of them the table in docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from runs import ROOT, code_commit, execute, read_lines, write_lines

from pgrun.system.machine import cpu_model

RESULTS = ROOT / "scripts" / "results" / "solved.csv"
FIRST = 1000  # the first seed: recipes are chosen on others
FIELDS = (
    *("row", "threshold", "seed", "solved", "wall_seconds", "prompt_seconds", "train_seconds", "env_steps"),
    *("commit", "date", "cpu", "cores", "torch", "load", "command"),
)
Line = dict[str, str]


@dataclass(frozen=True)
class Row:
    """A recipe on a task, and the mean return at which the task counts as solved."""

    algo: str
    env: str
    threshold: float
    steps: int  # the most environment steps
    overrides: tuple[str, ...] = ()
    variant: str = ""  # what the overrides make of it

    @property
    def name(self) -> str:
        """The row's name on the command line."""
        return "-".join(part for part in (self.algo, self.variant, self.env) if part)

    @property
    def command(self) -> str:
        """The command of one seed, without the seed."""
        words = ["pgrun", f"algo={self.algo}", f"env={self.env}", f"total_steps={self.steps}", *self.overrides]
        return " ".join([*words, f"eval.stop_at={self.threshold:g}"])


# found on seeds 100 to 119, for an evaluation that is quick to come: few gradient steps, and large ones
QUICK = (
    *("num_envs=8", "algo.rollout=32", "algo.epochs=2", "algo.minibatch=128", "algo.advantage.lambda_=0.95"),
    *("optimizer.lr=0.008", "eval.every=2000"),
)
ROWS = [
    Row("ppo", "cartpole", 475, 100_000),
    Row("ppo", "cartpole", 475, 50_000, QUICK, variant="quick"),
    Row("a2c", "cartpole", 475, 500_000),
    Row("trpo", "cartpole", 475, 100_000),
    Row("dqn", "cartpole", 475, 100_000),
    Row("ppo", "acrobot", -100, 1_000_000),
    Row("a2c", "acrobot", -100, 500_000),
    Row("ppo", "pendulum", -200, 100_000),
    Row("sac", "pendulum", -200, 20_000, ("eval.every=1000",)),
    Row("td3", "pendulum", -200, 20_000, ("eval.every=1000",)),
    Row("ddpg", "pendulum", -200, 20_000, ("eval.every=1000",)),
]


def main() -> int:
    """Run missing seeds, each written at once, and print the table."""
    names = {row.name: row for row in ROWS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=names, metavar="ROW", default=list(names), help=", ".join(names))
    parser.add_argument("--seeds", type=int, default=3, help=f"seeds of a row, from {FIRST} on (3)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1): more take time from one another")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the CSV")
    args = parser.parse_args()
    here = (code_commit(), cpu_model())
    table = {(line["row"], line["seed"]): line for line in read(args.results)}
    jobs = [
        (names[name], str(seed))
        for name in args.rows
        for seed in range(FIRST, FIRST + args.seeds)
        if not known(table.get((name, str(seed))), names[name], here)
    ]

    def run(job: tuple[Row, str]) -> None:
        line = measured(*job, here[0])
        table[job[0].name, job[1]] = line
        write(args.results, list(table.values()))
        print(f"{line['row']:20} seed {line['seed']}: {said(line)}", flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(run, jobs))
    print(page(list(table.values())))
    return 0


def known(line: Line | None, row: Row, here: tuple[str, str]) -> bool:
    """Tell whether a line is of this code, processor and command."""
    return line is not None and (line["commit"], line["cpu"], line["command"]) == (*here, row.command)


def measured(row: Row, seed: str, commit: str) -> Line:
    """Run one seed of a row, and return its line."""
    with tempfile.TemporaryDirectory() as folder:
        place, load = Path(folder) / "run", os.getloadavg()[0]
        command = [*row.command.split(), f"seed={seed}", f"hydra.run.dir={place}"]
        begin = time.time()
        done = execute(command, Path(folder))
        end = time.time()
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
        result = json.loads((place / "result.json").read_text())
        reached = [at for at, mean in evaluations(place) if mean >= row.threshold]
    figures = {
        "solved": int(bool(reached)),
        "wall_seconds": round((reached[0] if reached else end) - begin, 2),
        "prompt_seconds": round(end - begin, 2),
        "train_seconds": round(result["train_seconds"], 2),
        "env_steps": result["env_steps"],
    }
    machine = {"cpu": cpu_model(), "cores": os.cpu_count(), "torch": version("torch"), "load": round(load, 2)}
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    line = {"row": row.name, "threshold": f"{row.threshold:g}", "seed": seed, **figures, "commit": commit, "date": date}
    return {key: str(value) for key, value in {**line, **machine, "command": row.command}.items()}


def evaluations(place: Path) -> list[tuple[float, float]]:
    """Read the time and the mean return of each evaluation of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(place), size_guidance={"scalars": 0})
    events.Reload()
    return [(point.wall_time, point.value) for point in events.Scalars("eval/return")]


def said(line: Line) -> str:
    """Say how a seed went."""
    how = "solved" if line["solved"] == "1" else "NOT solved"
    spent = f"{line['wall_seconds']} s, {line['train_seconds']} s of training, {int(line['env_steps']):,} steps"
    return f"{how} after {spent}; back at the prompt after {line['prompt_seconds']} s (load {line['load']})"


def read(path: Path = RESULTS) -> list[Line]:
    """Read the lines of the CSV; none if there is no file."""
    return read_lines(path)


def write(path: Path, lines: Sequence[Line]) -> None:
    """Write the CSV, in the order of the rows."""
    order = [row.name for row in ROWS]
    kept = sorted((line for line in lines if line["row"] in order), key=lambda x: (order.index(x["row"]), x["seed"]))
    write_lines(path, FIELDS, kept)


def table() -> str:
    """Write the table of docs/speed.md, from the CSV (scripts/pages.py puts it there)."""
    return page(read())


def page(lines: Sequence[Line]) -> str:
    """Write the table: a row a recipe, with the median over its seeds and the range."""
    if not lines:
        return "Nothing is measured yet: `python scripts/solved.py` does it."
    heads = (
        "task",
        "solved",
        "seconds to solved",
        "of these training",
        "steps",
        "to the prompt",
        "measured",
        "command",
    )
    rows = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name in dict.fromkeys(line["row"] for line in lines):
        mine = [line for line in lines if line["row"] == name]
        solved = sum(line["solved"] == "1" for line in mine)
        where = dict.fromkeys(
            f"{line['commit']}, {line['date']}, {line['cpu']}, {line['cores']} cores, torch {line['torch']}"
            for line in mine
        )
        cells = (
            f"{name} to {mine[0]['threshold']}",
            f"{solved} of {len(mine)}",
            *(spread(mine, key) for key in ("wall_seconds", "train_seconds", "env_steps", "prompt_seconds")),
            "; ".join(where),
            f"`{mine[0]['command']}`",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def spread(lines: Sequence[Line], key: str) -> str:
    """Write a figure's median over seeds, and its range."""
    values = [float(line[key]) for line in lines]
    form = ",.0f" if key == "env_steps" else ".1f"
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    sys.exit(main())
