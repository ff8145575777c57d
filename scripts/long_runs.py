"""Check that long runs stay as fast and as large as they begin: time per step and memory, early, midway and at the end.

    python scripts/long_runs.py                       # every row: about half an hour on one core
    python scripts/long_runs.py --rows ppo --steps 0.1    # one of them, a tenth as long, to try it out

Each row is one `pgrun` with one thread. A second process looks at its memory (RSS); its speed is that of its own curve,
the environment steps by the seconds of training. The lines go to scripts/results/long_runs.csv, and
`python scripts/pages.py` makes of them the table in docs/speed.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from runs import ROOT, code_commit, read_lines, scalars, write_lines

from pgrun.system.machine import cpu_model

RESULTS = ROOT / "scripts" / "results" / "long_runs.csv"
POINTS = 100  # of the curves
PARTS = {"early": (0.2, 0.3), "midway": (0.5, 0.6), "late": (0.9, 1.0)}  # shares of the run
FIELDS = (
    *("row", "steps", *(f"speed_{part}" for part in PARTS), *(f"memory_{part}" for part in PARTS)),
    *("commit", "cpu", "torch", "command"),
)
Line = dict[str, str]


@dataclass(frozen=True)
class Row:
    """A long run."""

    name: str
    steps: int
    overrides: tuple[str, ...]

    def command(self, share: float) -> list[str]:
        """Return the words of its command, for so much of the run."""
        return ["pgrun", *self.overrides, f"total_steps={round(self.steps * share)}"]


ROWS = [
    Row("ppo", 10_000_000, ("algo=ppo", "env=cartpole", "env.backend=tensor", "num_envs=64", "compile=true")),
    Row("ppo-eager", 2_000_000, ("algo=ppo", "env=cartpole")),
    Row(  # a small network: how long a run stays flat doesn't depend on it
        *("sac", 300_000),
        ("algo=sac", "env=pendulum", "num_envs=1", "network.hidden=[64,64]", "memory.batch_size=64", "compile=true"),
    ),
    Row(  # it is full after 7 million steps, and then forgets
        *("sac-large-replay", 10_000_000),
        (
            *("algo=sac", "env=pendulum", "env.backend=tensor", "num_envs=64", "algo.rollout=64", "compile=true"),
            *("memory.capacity=7_000_000", "memory.updates=1", "memory.save=false"),
        ),
    ),
]


def main() -> int:
    """Run the rows one after the other, and print the table."""
    names = {row.name: row for row in ROWS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=names, metavar="ROW", default=list(names), help=", ".join(names))
    parser.add_argument("--steps", type=float, default=1.0, help="the share of a row's steps to run (1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the CSV")
    args = parser.parse_args()
    table = {line["row"]: line for line in read(args.results)}
    for name in args.rows:
        table[name] = measured(names[name], args.steps)
        write(args.results, [table[row.name] for row in ROWS if row.name in table])
    print(page([table[row.name] for row in ROWS if row.name in table]))
    return 0


def measured(row: Row, share: float) -> Line:
    """Run a row, and return its line."""
    words = row.command(share)
    steps = round(row.steps * share)
    more = ("eval.every=null", "eval.final_episodes=1", f"log.every={steps // POINTS}", "threads=1")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        begun = [sys.executable, "-m", "pgrun", *words[1:], *more, f"hydra.run.dir={place}"]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        run = subprocess.Popen(begun, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        sizes = watch(run)
        if run.returncode:
            said = run.stderr.read().strip() if run.stderr else ""
            sys.exit(f"{' '.join(words)}: {(said or 'failed').splitlines()[-1]}")
        at, seconds = scalars(place, "time/train_seconds")
        times = scalars(place, "time/train_seconds", seconds=True)[0]
    start, figures = sizes[-1][0] - times[-1], {}  # when the first point was written: the last one is at the end
    for part, (low, high) in PARTS.items():
        here = [i for i, step in enumerate(at) if low * steps <= step <= high * steps]
        first, last = here[0], here[-1]
        figures[f"speed_{part}"] = round((at[last] - at[first]) / (seconds[last] - seconds[first]))
        seen = [size for t, size in sizes if times[first] <= t - start <= times[last]] or [sizes[-1][1]]
        figures[f"memory_{part}"] = round(statistics.median(seen) / 2**20)
    machine = {"commit": code_commit(), "cpu": cpu_model(), "torch": version("torch"), "command": " ".join(words)}
    return {key: str(value) for key, value in {"row": row.name, "steps": steps, **figures, **machine}.items()}


def watch(run: subprocess.Popen[str]) -> list[tuple[float, int]]:
    """Look at a process's memory until it ends: the time, and bytes."""
    process = psutil.Process(run.pid)
    sizes = [(time.time(), process.memory_info().rss)]
    while run.poll() is None:
        try:
            sizes.append((time.time(), process.memory_info().rss))
        except psutil.Error:
            break
        time.sleep(0.2)
    run.wait()
    return sizes


def read(path: Path = RESULTS) -> list[Line]:
    """Read the lines of the CSV; none if there is no file."""
    return read_lines(path)


def write(path: Path, lines: Sequence[Line]) -> None:
    """Write the CSV."""
    write_lines(path, FIELDS, lines)


def table() -> str:
    """Write the table of docs/speed.md, from the CSV (scripts/pages.py puts it there)."""
    return page(read())


def page(lines: Sequence[Line]) -> str:
    """Write the table: a row a run."""
    if not lines:
        return "Nothing is measured yet: `python scripts/long_runs.py` does it."
    shares = [f"{low:.0%} to {high:.0%}" for low, high in PARTS.values()]
    rows = [
        "| steps | steps/s at " + ", ".join(shares) + " of the run | memory there, MB | measured | command |",
        "| --- " * 5 + "|",
    ]
    for line in lines:
        speed, memory = (", ".join(f"{int(line[f'{key}_{part}']):,}" for part in PARTS) for key in ("speed", "memory"))
        where = f"{line['commit']}, {line['cpu']}, torch {line['torch']}"
        rows.append(f"| {int(line['steps']):,} | {speed} | {memory} | {where} | `{line['command']}` |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
