"""Measure three textbook claims: the effects of a larger batch, of another optimizer, and of a clip or a penalty.

    python scripts/ablations.py --runs ~/pgrun-ablations     # trains missing runs; writes results/ablations.*

Batch: VPG on CartPole with more and more steps an update, and the signal-to-noise ratio of its gradient.
Optimizer: PPO on CartPole with Adam and with plain SGD, each at several learning rates. Clip: PPO on CartPole with
its clip, with the adaptive KL penalty, and with neither. Three seeds each; evaluations of the deterministic policy.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from arms import COLOURS, Arm, draw_curves, train_all
from matplotlib.axes import Axes
from runs import interval, iqm

RESULTS = Path(__file__).parent / "results"


BATCH = ("algo=vpg", "env=cartpole", "num_envs=8", "total_steps=200_000", "diagnostics.gradient_variance=true")
PPO = ("algo=ppo", "env=cartpole", "total_steps=60_000", "optimizer.schedule=constant", "algo.clip_schedule=constant")
SAME = (
    *("env=cartpole", "num_envs=8", "total_steps=60_000", "algo.rollout=128", "algo.epochs=10", "algo.minibatch=256"),
    *("algo.gamma=0.98", "algo.advantage.lambda_=0.8", "optimizer.lr=1e-3", "optimizer.schedule=constant"),
)
ARMS = (
    *(Arm("batch", f"{8 * t} steps", (*BATCH, f"algo.rollout={t}")) for t in (32, 128, 512, 2048)),
    *(
        Arm("optimizer", f"adam {lr}", (*PPO, "optimizer=adam", f"optimizer.lr={lr}"))
        for lr in ("3e-4", "1e-3", "3e-3")
    ),
    *(Arm("optimizer", f"sgd {lr}", (*PPO, "optimizer=sgd", f"optimizer.lr={lr}")) for lr in ("1e-2", "1e-1", "1")),
    Arm("clip", "clip", ("algo=ppo", "algo.clip_schedule=constant", *SAME)),
    Arm("clip", "adaptive KL", ("algo=ppo_kl", *SAME)),
    Arm("clip", "neither", ("algo=ppo", "algo.clip_range=null", *SAME)),
)


def main() -> None:
    """Train missing runs, write the table, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder for the run directories")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figure and the table go")
    args = parser.parse_args()
    folder = args.runs.absolute()
    train_all(folder, ARMS, args.jobs)
    write(folder, args.out)
    draw(folder, args.out)


def write(folder: Path, out: Path) -> None:
    """Write the table: final evaluations, and for the batches the gradient's noise."""
    with (out / "ablations.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["study", "arm", "iqm", "low", "high", "worst", "gradient_variance", "gradient_snr", "command"])
        for arm in ARMS:
            means = arm.finals(folder)
            low, high = interval(means)
            noise = ["", ""]
            if arm.study == "batch":
                tags = ("gradient/variance", "gradient/snr")
                noise = [f"{np.median(arm.curves(folder, tag)[1]):.3g}" for tag in tags]
            figures = [f"{x:.1f}" for x in (iqm(means), low, high, float(means.min()))]
            table.writerow([arm.study, arm.name, *figures, *noise, arm.command])


def draw(folder: Path, out: Path) -> None:
    """Draw the figure, which has four panels."""
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 10.5, "axes.titleweight": "bold"})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 4, figsize=(17.0, 4.0))
    draw_noise(axes[0], folder)
    titles = {
        "batch": "Larger batches: fewer, surer steps",
        "optimizer": "Adam gets there, plain SGD does not",
        "clip": "A clip or a KL penalty",
    }
    for ax, (study, title) in zip(axes[1:], titles.items(), strict=True):
        draw_curves(ax, folder, [arm for arm in ARMS if arm.study == study])
        ax.set_title(title, loc="left")
    figure.tight_layout()
    figure.savefig(out / "ablations.png", dpi=110)


def draw_noise(ax: Axes, folder: Path) -> None:
    """Plot the variance of the gradient estimate over the batch size."""
    arms = [arm for arm in ARMS if arm.study == "batch"]
    sizes = np.array([int(arm.name.split()[0]) for arm in arms])
    variance = np.array([np.median(arm.curves(folder, "gradient/variance")[1]) for arm in arms])
    ax.loglog(sizes, variance, "o-", color=COLOURS[0], label="measured")
    ax.loglog(sizes, variance[0] * sizes[0] / sizes, "--", color=COLOURS[-1], label="∝ 1 / batch")
    ax.set_xlabel("steps an update")
    ax.set_title("Variance of VPG's gradient", loc="left")
    ax.legend(frameon=False)


if __name__ == "__main__":
    main()
