"""Draw the learning curves of a sweep: a line an algorithm, the median of its seeds, a band from the worst to the best.

pgrun -m algo=reinforce,a2c,trpo,ppo 'seed=range(3)' total_steps=100000 eval.every=5000
python scripts/curves.py multirun/FOLDER        # writes scripts/results/curves.csv and curves.png
python scripts/curves.py                        # draws the CSV again
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from runs import ROOT, scalars

RESULTS = ROOT / "scripts" / "results" / "curves.csv"
FIELDS = ("algo", "env", "seed", "step", "return")


def read_sweep(folder: Path) -> list[dict[str, str]]:
    """Read the evaluations of each finished job of a sweep, as lines of the CSV."""
    lines = []
    for file in sorted(folder.glob("*/result.json")):
        run = json.loads(file.read_text())
        if run["status"] == "finished":
            for step, value in zip(*scalars(file.parent, "eval/return"), strict=True):
                cells = (run["algo"], run["env"], run["seed"], step, round(value, 2))
                lines.append(dict(zip(FIELDS, map(str, cells), strict=True)))
    return lines


def write(lines: list[dict[str, str]]) -> None:
    """Write the CSV."""
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def curves(lines: list[dict[str, str]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Collect each algorithm's curves: steps [N], and returns [seeds, N] at these steps, by interpolation."""
    runs: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        runs[line["algo"]][line["seed"]].append((float(line["step"]), float(line["return"])))
    found = {}
    for algo, seeds in runs.items():
        points = [np.array(sorted(each)).T for each in seeds.values()]
        begin, end = max(p[0][0] for p in points), min(p[0][-1] for p in points)
        steps = np.linspace(begin, end, 60)
        found[algo] = steps, np.stack([np.interp(steps, *p) for p in points])
    return found


def draw(lines: list[dict[str, str]]) -> Path:
    """Draw the picture beside the CSV; -> its file."""
    figure, axes = plt.subplots(figsize=(8.0, 3.6))
    found = curves(lines)
    for algo, (steps, returns) in sorted(found.items(), key=lambda each: -np.median(each[1][1][:, -1])):
        (line,) = axes.plot(steps / 1000, np.median(returns, 0), label=algo, linewidth=2)
        axes.fill_between(steps / 1000, returns.min(0), returns.max(0), color=line.get_color(), alpha=0.15, linewidth=0)
    seeds = min(len(returns) for _, returns in found.values())
    axes.set_title(
        f"{lines[0]['env']}: evaluations, the median of {seeds} seeds and a band from the worst to the best",
        fontsize=10,
    )
    axes.set_xlabel("thousand environment steps")
    axes.set_ylabel("return")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(RESULTS.with_suffix(".png"), dpi=120, bbox_inches="tight")
    plt.close(figure)
    return RESULTS.with_suffix(".png")


def main() -> None:
    """Read a sweep, or the CSV where none is named, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", nargs="?", type=Path, help="the sweep's folder")
    folder = parser.parse_args().sweep
    if folder:
        lines = read_sweep(folder)
        if not lines:
            parser.error(f"{folder} holds no finished run")
        write(lines)
    with RESULTS.open(newline="") as file:
        print(draw(list(csv.DictReader(file))))


if __name__ == "__main__":
    main()
