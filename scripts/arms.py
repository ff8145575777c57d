"""Settings that a study compares: train several seeds of each, read what they learned, and draw it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from runs import result, scalars, train

COLOURS = ("#2b6ca3", "#d9541e", "#2a9d8f", "#7b5aa6", "#b8860b", "#8a8a8a")


@dataclass(frozen=True)
class Arm:
    """One setting that is tried.

    Args:
        study: what it is part of.
        name: what it is called in tables and legends.
        words: its command, without the seed; SEED in it stands for that.
        seeds: that it is trained with.
    """

    study: str
    name: str
    words: tuple[str, ...]
    seeds: Sequence[int] = range(3)

    @property
    def command(self) -> str:
        """Return the command that trains one seed."""
        return " ".join(["pgrun", *self.words])

    def with_seed(self, seed: int) -> list[str]:
        """Return the words of one seed's command."""
        return [*(word.replace("SEED", str(seed)) for word in self.words), f"seed={seed}"]

    def place(self, folder: Path, seed: int) -> Path:
        """Return the run directory of a seed."""
        return folder / self.study / self.name.replace(" ", "_").replace(",", "") / f"s{seed}"

    def finals(self, folder: Path) -> np.ndarray:
        """Read the final evaluation of every seed; NaN of one that diverged."""
        found = [result(self.place(folder, seed)) for seed in self.seeds]
        return np.array([r["eval_return_mean"] if r else np.nan for r in found])

    def curves(self, folder: Path, tag: str, seconds: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Read a tag's curve of every seed.

        Args:
            folder: of all run directories.
            tag: of the curve.
            seconds: over seconds since the curve's first point, not over environment steps.

        Returns:
            Steps or seconds [N] and values [S, N]; a seed that stopped early keeps its last value.
        """
        found = [scalars(self.place(folder, seed), tag, seconds) for seed in self.seeds]
        steps = max((x for x, _ in found), key=len)
        return np.array(steps), np.array([np.interp(steps, x, y) for x, y in found])


def train_all(folder: Path, arms: Sequence[Arm], jobs: int) -> None:
    """Train every seed of every arm that isn't finished, so many at a time."""

    def start(arm: Arm, seed: int) -> None:
        if said := train(arm.place(folder, seed), ["pgrun", *arm.with_seed(seed)]):
            print(f"{arm.study}, {arm.name}, seed {seed}: {said}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda job: start(*job), [(arm, seed) for arm in arms for seed in arm.seeds]))


def draw_curves(ax: Axes, folder: Path, arms: Sequence[Arm], tag: str = "eval/return", seconds: bool = False) -> None:
    """Plot a curve of each arm: the median seed, and the range from the worst to the best."""
    for arm, colour in zip(arms, COLOURS, strict=False):
        x, values = arm.curves(folder, tag, seconds)
        x = x if seconds else x / 1_000
        ax.plot(x, np.median(values, 0), color=colour, label=arm.name)
        ax.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
    ax.set_xlabel("seconds" if seconds else "environment steps, thousands")
    ax.set_ylabel("evaluation return" if tag == "eval/return" else "training return")
    ax.legend(framealpha=0.8, edgecolor="none", fontsize=8, loc="lower right")
