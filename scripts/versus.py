"""Compare what another program learns from the same work, over seeds, with pgrun's own figures.

    python scripts/versus.py --runs ~/versus --name sb3 'COMMAND' ppo/cartpole a2c/cartpole

`COMMAND ALGO ENV --seed N` trains one seed and prints as its last line a JSON with "eval_return_mean" and
"steps_per_second". A seed that is done is not run again. The summary goes to scripts/results/versus.csv, and
`python scripts/pages.py` puts it into docs/results.md.

Start states differ: on Pendulum the mean of 100 episodes has a standard error of 8. With `--ours FOLDER`, the folder of
scripts/learning.py's runs, pgrun's policies are evaluated once more on the other program's episodes: those of one
Gymnasium environment seeded with 10,000 plus the seed (`--eval-seed`).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from runs import ROOT, interval, iqm, shown

from pgrun.loop.evaluate import evaluate
from pgrun.run import checkpoint
from pgrun.run.build import make_algorithm
from pgrun.run.directory import find_checkpoint, load_run
from pgrun.run.environments import make_env

RESULTS = ROOT / "scripts" / "results" / "versus.csv"
LEARNING = ROOT / "scripts" / "results" / "learning.csv"
FIELDS = (
    "program",
    "algo",
    "env",
    "seeds",
    "iqm",
    "low",
    "high",
    "worst",
    "steps",
    "steps_per_second",
    "pgrun",
    "pgrun_worst",
    "pgrun_same",  # on the same episodes
    "pgrun_same_low",
    "pgrun_same_high",
    "pgrun_same_worst",
)


def main() -> int:
    """Run missing seeds, then write and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", help="how the other program is started")
    parser.add_argument("work", nargs="+", help="ALGO/ENV, as both programs call them")
    parser.add_argument("--runs", type=Path, required=True, help="folder for what it printed")
    parser.add_argument("--name", required=True, help="what to call it")
    parser.add_argument("--seeds", type=int, default=5, help="how many (5)")
    parser.add_argument("--ours", type=Path, help="folder of pgrun's runs, to be evaluated on the same episodes")
    parser.add_argument("--eval-seed", type=int, default=10_000, help="what is added to a seed for these (10000)")
    args = parser.parse_args()
    table = {(line["program"], line["algo"], line["env"]): line for line in read(RESULTS)}
    ours = {(line["row"]): line for line in read(LEARNING)}
    for work in args.work:
        algo, _, env = work.partition("/")
        done = [one(args.runs / args.name, args.command, algo, env, seed) for seed in range(args.seeds)]
        means = np.array([each["eval_return_mean"] for each in done])
        low, high = interval(means)
        mine = ours.get(f"{algo}-{env}", {})
        figures = (
            *(args.name, algo, env, args.seeds, round(iqm(means), 1), round(low, 1), round(high, 1), means.min()),
            *(done[0]["env_steps"], round(float(np.median([each["steps_per_second"] for each in done])))),
            *(mine.get("iqm", ""), mine.get("worst", "")),
        )
        before = table.get((args.name, algo, env), {})
        kept = before.get("seeds") == str(args.seeds)
        same: tuple[float | str, ...] = tuple(before[field] if kept else "" for field in FIELDS[-4:])
        if args.ours:
            folders = [args.ours / f"{algo}-{env}" / f"s{seed}" for seed in range(args.seeds)]
            means = np.array([on_episodes(folder, args.eval_seed + seed) for seed, folder in enumerate(folders)])
            same = tuple(round(x, 1) for x in (iqm(means), *interval(means), means.min()))
        table[args.name, algo, env] = dict(zip(FIELDS, map(str, (*figures, *same)), strict=True))
        print(
            f"{work:24} " + " ".join(f"{k} {v}" for k, v in table[args.name, algo, env].items() if k not in FIELDS[:3])
        )
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(table.values())
    return 0


def one(folder: Path, command: str, algo: str, env: str, seed: int) -> dict[str, float]:
    """Return the figures of one seed; run it if they are not known yet."""
    file = folder / f"{algo}-{env}-s{seed}.json"
    if not file.exists():
        words = [*shlex.split(command), algo, env, "--seed", str(seed)]
        said = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if said.returncode:
            sys.exit(f"{shlex.join(words)}: {said.stderr.strip().splitlines()[-1]}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(said.stdout.strip().splitlines()[-1] + "\n")
    return json.loads(file.read_text())


class Seeded:
    """A single environment that begins with Gymnasium's own episode of this very seed."""

    num_envs = 1

    def __init__(self, env: Any) -> None:
        self.env = env
        self.step = env.step

    def reset(self, seed: int) -> torch.Tensor:
        """Begin the episode of the seed, and return obs [1, *O]."""
        obs, _ = self.env.env.reset(seed=[seed])
        return torch.as_tensor(obs)


def on_episodes(folder: Path, seed: int, episodes: int = 100) -> float:
    """Evaluate a run's final policy, deterministic, on the episodes of this seed."""
    state = checkpoint.load(find_checkpoint(folder, "latest"))
    config, _ = load_run(folder, state)
    config.device, config.act_device, config.compile = "cpu", "cpu", False
    if "backend" not in config.env:
        raise SystemExit(f"{folder}: --ours needs an environment of Gymnasium's, whose seed decides its episodes")
    config.env.backend = "sync"
    with closing(make_env(config, 1)) as env:
        algorithm = make_algorithm(config, env)
        algorithm.restore(state["algorithm"], optimizers=False)
        return evaluate(algorithm, Seeded(env), episodes, seed=seed).mean  # type: ignore[arg-type]


def table() -> str:
    """Write the table of docs/results.md, from both CSVs (scripts/pages.py puts it there)."""
    ours = {line["row"]: line for line in read(LEARNING)}
    heads = ("", "pgrun: IQM [interval]", "worst", "SB3: IQM [interval]", "worst", "pgrun on SB3's episodes", "worst")
    lines = [f"| {' | '.join(heads)} |".replace("|  |", "| |"), "| --- " * len(heads) + "|"]
    for line in read(RESULTS):
        mine = ours[f"{line['algo']}-{line['env']}"]
        name = f"{line['algo'].upper()} {shown(line['env'])}"
        mine_k, its_k = (round(int(each["steps"]) / 1_000) for each in (mine, line))
        name += f", {mine_k}k steps beside {its_k}k" if mine_k > 1.5 * its_k else ""
        cells = [name, figures(mine), mine["worst"], figures(line), line["worst"]]
        cells += [figures(line, "pgrun_same", "pgrun_same_"), line["pgrun_same_worst"]]
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |"))
    return "\n".join(lines)


def figures(line: dict[str, str], middle: str = "iqm", ends: str = "") -> str:
    """Write a line's mean and interval, nothing where it has none."""
    return f"{line[middle]} [{line[f'{ends}low']}, {line[f'{ends}high']}]" if line[middle] else ""


def read(path: Path) -> list[dict[str, str]]:
    """Read the lines of a CSV; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
