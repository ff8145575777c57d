"""Measure three textbook claims: the effects of a larger batch, of another optimizer, and of a clip or a penalty.

    python scripts/ablations.py --runs ~/pgrun-ablations     # trains missing runs; writes results/ablations.*

Batch: VPG on CartPole with more and more steps an update, and the signal-to-noise ratio of its gradient.
Optimizer: PPO on CartPole with Adam and with plain SGD, each at several learning rates. Clip: PPO on CartPole with
its clip, with the adaptive KL penalty, and with neither. Three seeds each; evaluations of the deterministic policy.
"""

from __future__ import annotations

import argparse
import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from runs import interval, iqm, result, scalars, train

RESULTS = Path(__file__).parent / "results"
SEEDS = 3
COLOURS = ("#2b6ca3", "#d9541e", "#2a9d8f", "#7b5aa6", "#b8860b", "#8a8a8a")


@dataclass(frozen=True)
class Arm:
    """One setting that is tried."""

    study: str
    name: str
    words: tuple[str, ...]

    def place(self, folder: Path, seed: int) -> Path:
        """Return the run directory of a seed."""
        return folder / self.study / self.name.replace(" ", "_") / f"s{seed}"

    def curves(self, folder: Path, tag: str) -> tuple[np.ndarray, np.ndarray]:
        """Read a tag's curve of every seed.

        Returns:
            Steps [N] and values [SEEDS, N]; a seed that stopped early keeps its last value.
        """
        found = [scalars(self.place(folder, seed), tag) for seed in range(SEEDS)]
        steps = max((x for x, _ in found), key=len)
        return np.array(steps), np.array([np.interp(steps, x, y) for x, y in found])


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
    jobs = [(arm, seed) for arm in ARMS for seed in range(SEEDS)]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda job: start(folder, *job), jobs))
    write(folder, args.out)
    draw(folder, args.out)


def start(folder: Path, arm: Arm, seed: int) -> None:
    """Train one seed of an arm, unless it is finished."""
    if said := train(arm.place(folder, seed), ["pgrun", *arm.words, f"seed={seed}"]):
        print(f"{arm.study}, {arm.name}, seed {seed}: {said}", flush=True)


def finals(folder: Path, arm: Arm) -> np.ndarray:
    """Read the final evaluation of every seed; NaN of one that diverged."""
    found = [result(arm.place(folder, seed)) for seed in range(SEEDS)]
    return np.array([r["eval_return_mean"] if r else np.nan for r in found])


def write(folder: Path, out: Path) -> None:
    """Write the table: final evaluations, and for the batches the gradient's noise."""
    with (out / "ablations.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["study", "arm", "iqm", "low", "high", "worst", "gradient_variance", "gradient_snr", "command"])
        for arm in ARMS:
            means = finals(folder, arm)
            low, high = interval(means)
            noise = ["", ""]
            if arm.study == "batch":
                tags = ("gradient/variance", "gradient/snr")
                noise = [f"{np.median(arm.curves(folder, tag)[1]):.3g}" for tag in tags]
            figures = [f"{x:.1f}" for x in (iqm(means), low, high, float(means.min()))]
            table.writerow([arm.study, arm.name, *figures, *noise, " ".join(["pgrun", *arm.words])])


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


def draw_curves(ax: Axes, folder: Path, arms: list[Arm]) -> None:
    """Plot evaluations over training: the median seed, and the range from the worst to the best."""
    for arm, colour in zip(arms, COLOURS, strict=False):
        steps, values = arm.curves(folder, "eval/return")
        steps = steps / 1_000
        ax.plot(steps, np.median(values, 0), color=colour, label=arm.name)
        ax.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
    ax.set_xlabel("environment steps, thousands")
    ax.set_ylabel("evaluation return")
    ax.legend(framealpha=0.8, edgecolor="none", fontsize=8, loc="lower right")


if __name__ == "__main__":
    main()
