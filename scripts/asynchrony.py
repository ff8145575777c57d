"""Measure three claims about asynchronous workers: against synchronous ones, with more of them, with unlike ones.

    python scripts/asynchrony.py --runs ~/pgrun-asynchrony     # trains missing runs; writes results/asynchrony.*

All on CartPole with A2C's recipe. Synchrony: 16 environments in one process, in two that average their gradients, and
in two that step shared weights without a lock; the same runs over steps and over seconds. Workers: A3C of one
environment a worker, W = 1 to 8, at equal steps of all together. Exploration: four such workers with one entropy
coefficient, or with four. Five seeds each. Runs are trained one at a time, as seconds are measured: let nothing else
run beside.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from arms import Arm, draw_curves, train_all
from runs import interval, iqm, result

RESULTS = Path(__file__).parent / "results"
SEEDS = range(1000, 1005)
TAG = "train/return"

ALL = ("env=cartpole", "eval.every=null", "optimizer.schedule=constant")
TOGETHER = (*ALL, "total_steps=150_000", "log.every=1500")
ALONE = (*ALL, "algo=a3c", "num_envs=1", "total_steps=60_000", "log.every=1000")
ARMS = (
    Arm("synchrony", "A2C in one process", ("algo=a2c", "num_envs=16", *TOGETHER), SEEDS),
    Arm("synchrony", "A2C in two", ("algo=a2c", "parallel=ddp", "workers=2", "num_envs=16", *TOGETHER), SEEDS),
    Arm("synchrony", "A3C, two workers", ("algo=a3c", "workers=2", "num_envs=8", *TOGETHER), SEEDS),
    *(Arm("workers", f"W of {w}", (*ALONE, f"workers={w}"), SEEDS) for w in (1, 2, 4, 8)),
    *(
        Arm("exploration", name, (*ALONE, "workers=4", f"algo.exploration_per_worker={coefficients}"), SEEDS)
        for name, coefficients in (
            ("0 for all", "[0.0]"),
            ("0.01 for all", "[0.01]"),
            ("0 to 0.03", "[0.0,0.003,0.01,0.03]"),
        )
    ),
)
TITLES = {
    "synchrony": "Synchronous and asynchronous",
    "workers": "A3C with W workers",
    "exploration": "Entropy coefficients of four workers",
}


def main() -> None:
    """Train missing runs, write the table, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder for the run directories")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figure and the table go")
    args = parser.parse_args()
    folder = args.runs.absolute()
    train_all(folder, ARMS, jobs=1)
    write(folder, args.out)
    draw(folder, args.out)


def steadiness(folder: Path, arm: Arm) -> tuple[float, float]:
    """Measure how well and how evenly an arm trains in its second half.

    Returns:
        Means over seeds of the training return there, and of its standard deviation from one logged point to the next.
    """
    values = arm.curves(folder, TAG)[1]
    half = values[:, values.shape[1] // 2 :]
    return float(half.mean()), float(np.diff(half, axis=1).std(1).mean())


def write(folder: Path, out: Path) -> None:
    """Write the table: final evaluations, the training return of the second half, and seconds."""
    with (out / "asynchrony.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["study", "arm", "iqm", "low", "high", "worst", "second_half", "jumps", "seconds", "command"])
        for arm in ARMS:
            means = arm.finals(folder)
            figures = (iqm(means), *interval(means), float(means.min()), *steadiness(folder, arm))
            found = [result(arm.place(folder, seed)) for seed in arm.seeds]
            seconds = float(np.median([r["train_seconds"] for r in found if r]))
            table.writerow([arm.study, arm.name, *(f"{x:.1f}" for x in (*figures, seconds)), arm.command])


def draw(folder: Path, out: Path) -> None:
    """Draw the figure: the first study over steps and over seconds, the others over steps."""
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 10.5, "axes.titleweight": "bold"})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 4, figsize=(17.0, 4.0))
    panels = [("synchrony", False), ("synchrony", True), ("workers", False), ("exploration", False)]
    for ax, (study, seconds) in zip(axes, panels, strict=True):
        draw_curves(ax, folder, [arm for arm in ARMS if arm.study == study], TAG, seconds)
        ax.set_title(TITLES[study] + (", over seconds" if seconds else ""), loc="left")
    figure.tight_layout()
    figure.savefig(out / "asynchrony.png", dpi=110)


if __name__ == "__main__":
    main()
