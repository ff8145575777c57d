"""Measure what a policy of many modes is good for: fine-tuning, composing, and a world that changes.

    python scripts/soft_q_transfer.py --runs ~/pgrun-transfer    # trains missing runs; writes results/soft_q_transfer.*

On a plane with goals in four directions (env=multi_goal), five seeds each. Fine-tuning: only the northern goal is
left; soft Q-learning and DDPG learn it from their policies for all four, and from scratch. Composing: one policy for
north and east, one for north and west, and the mean of their Qs, which has not trained. A changed world: the goal that
each policy goes to most is gone. And Pendulum, trained at g = 10 and evaluated at others. Soft Q-learning acts by draws
where a goal is gone, elsewhere each acts as well as it can.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from textwrap import fill

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from arms import COLOURS, Arm, draw_curves, train_all
from matplotlib.axes import Axes
from runs import interval, iqm
from soft_q_goals import EPISODES, SMALL, episodes, load

from pgrun.loop.evaluate import evaluate

RESULTS = Path(__file__).parent / "results"
SEEDS = range(1000, 1005)
ALGOS = {"sql": "soft Q-learning", "ddpg": "DDPG"}
GRAVITY = (6.0, 8.0, 10.0, 12.0, 14.0)

WORDS = {
    "sql": ("algo=sql", "env=multi_goal", "eval.every=null"),
    "ddpg": (
        "algo=ddpg",
        "env=multi_goal",
        *SMALL,
        "network.hidden=[64,64]",
        "memory.batch_size=64",
        "eval.every=null",
    ),
}
SHORT = ("env.world.goals=[north]", "total_steps=4_000", "memory.warmup=200", "eval.every=200", "eval.episodes=20")


def start(study: str, name: str) -> str:
    """Return the word that starts from the policy of another arm, as seen from the folder of an arm's runs."""
    return f"algo.init_from=../../{study}/{name.replace(' ', '_')}/sSEED"


BROAD = {algo: Arm("broad", name, WORDS[algo], SEEDS) for algo, name in ALGOS.items()}
TUNED = {
    (algo, way): Arm("tuning", f"{name} {way}", (*WORDS[algo], *SHORT, *begin), SEEDS)
    for algo, name in ALGOS.items()
    for way, begin in (("from all four", (start("broad", name),)), ("from scratch", ()))
}
SKILLS = {
    side: Arm("skill", f"north and {side}", (*WORDS["sql"], f"env.world.goals=[north,{side}]"), SEEDS)
    for side in ("east", "west")
}
BOTH = ",".join(f"../../skill/north_and_{side}/sSEED" for side in SKILLS)
COMPOSED = Arm(
    "composed",
    "their mean",
    (*WORDS["sql"], f"algo.compose=[{BOTH}]", "total_steps=40", "memory.warmup=1000", "eval.final_episodes=1"),
    SEEDS,
)
PENDULUM = {
    algo: Arm("pendulum", name, (f"algo={algo}", "env=pendulum", "eval.every=null"), SEEDS)
    for algo, name in ALGOS.items()
}
STAGES = (
    (*BROAD.values(), *SKILLS.values(), *PENDULUM.values()),
    (*TUNED.values(), COMPOSED),  # these begin with those
)


def main() -> None:
    """Train missing runs, write the table, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder for the run directories")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figure and the table go")
    args = parser.parse_args()
    folder = args.runs.absolute()
    for arms in STAGES:
        train_all(folder, arms, args.jobs)
    table = [*tuning(folder), *composing(folder), *closing_goals(folder), *changed_gravity(folder)]
    with (args.out / "soft_q_transfer.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["study", "arm", "what", "iqm", "low", "high", "worst", "command"])
        writer.writerows(table)
    draw(folder, args.out, table)


def row(study: str, arm: Arm, what: str, figures: Sequence[float]) -> list[str]:
    """Sum up the seeds in a row of the table."""
    found = np.array(figures)
    summary = (iqm(found), *interval(found), float(found.min()))
    return [study, arm.name, what, *(f"{x:.3g}" if study != "gravity" else f"{x:.1f}" for x in summary), arm.command]


def tuning(folder: Path) -> list[list[str]]:
    """Return rows of the mean evaluation over the whole of a short training, and of its end."""
    rows = []
    for arm in TUNED.values():
        curves = arm.curves(folder, "eval/return")[1]
        rows.append(row("fine-tuning", arm, "mean return while learning", list(curves.mean(1))))
        rows.append(row("fine-tuning", arm, "return at the end", list(arm.finals(folder))))
    return rows


def shares(place: Path, goals: tuple[str, ...], explore: bool) -> Counter[str]:
    """Count where a policy's episodes end, in shares of all, in a world with these goals."""
    algorithm, env = load(place, {"env.world.goals": list(goals)})
    with closing(env):
        ends = episodes(algorithm, env, explore)[1]
    return Counter({name: count / EPISODES for name, count in Counter(ends).items()})


def composing(folder: Path) -> list[list[str]]:
    """Return rows of the share of episodes that end in the north, where east and west would end them too."""
    rows = []
    for arm in (*SKILLS.values(), COMPOSED):
        found = [shares(arm.place(folder, seed), ("north", "east", "west"), False)["north"] for seed in SEEDS]
        rows.append(row("composing", arm, "share that ends in the north", found))
    return rows


def closing_goals(folder: Path) -> list[list[str]]:
    """Return rows of the share of episodes that reach a goal, before and after the one most gone to is taken away."""
    rows = []
    for algo, arm in BROAD.items():
        every, before, after = ("east", "west", "north", "south"), [], []
        for seed in SEEDS:
            place = arm.place(folder, seed)
            found = shares(place, every, algo == "sql")
            before.append(1.0 - found.pop("none", 0.0))
            most = max(every, key=lambda name: found[name])
            left = tuple(name for name in every if name != most)
            after.append(1.0 - shares(place, left, algo == "sql")["none"])
        rows.append(row("a goal gone", arm, "share that reaches a goal of four", before))
        rows.append(row("a goal gone", arm, "share that reaches one of the other three", after))
    return rows


def changed_gravity(folder: Path) -> list[list[str]]:
    """Return rows of Pendulum's return at each g, 100 episodes."""
    rows = []
    for arm in PENDULUM.values():
        for g in GRAVITY:
            found = []
            for seed in SEEDS:
                algorithm, env = load(arm.place(folder, seed), {"env.kwargs": {"g": g}})
                with closing(env):
                    found.append(evaluate(algorithm, env, 100, seed=seed).mean)
            rows.append(row("gravity", arm, f"return at g = {g:g}", found))
    return rows


def draw(folder: Path, out: Path, table: list[list[str]]) -> None:
    """Draw the figure: fine-tuning's curves, and the shares and returns of the table."""
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 10.5, "axes.titleweight": "bold"})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 4, figsize=(17.0, 4.0))
    draw_curves(axes[0], folder, list(TUNED.values()))
    axes[0].set_title("Learning the northern goal", loc="left")
    draw_bars(axes[1], [line for line in table if line[0] == "composing"], "share that ends in the north")
    axes[1].set_title("Two skills, and the mean of their Qs", loc="left")
    lines = [[*line[:1], line[1] + (", a goal gone" if "other" in line[2] else ""), *line[2:]] for line in table]
    draw_bars(axes[2], [line for line in lines if line[0] == "a goal gone"], "share that reaches a goal")
    axes[2].set_title("The goal gone to most is taken away", loc="left")
    for arm, colour in zip(PENDULUM.values(), COLOURS, strict=False):
        found = [line for line in table if line[0] == "gravity" and line[1] == arm.name]
        middle, low, high = np.array([line[3:6] for line in found], dtype=float).T
        axes[3].plot(GRAVITY, middle, "o-", color=colour, label=arm.name)
        axes[3].fill_between(GRAVITY, low, high, color=colour, alpha=0.15, lw=0)
    axes[3].set_xlabel("g (trained at 10)")
    axes[3].set_ylabel("evaluation return")
    axes[3].legend(frameon=False)
    axes[3].set_title("Pendulum under another gravity", loc="left")
    figure.tight_layout()
    figure.savefig(out / "soft_q_transfer.png", dpi=110)


def draw_bars(ax: Axes, lines: list[list[str]], label: str) -> None:
    """Draw the IQM and interval of each line as a bar."""
    middle, low, high = np.array([line[3:6] for line in lines], dtype=float).T
    ax.bar(range(len(lines)), middle, yerr=[middle - low, high - middle], color=COLOURS[: len(lines)], width=0.6)
    ax.set_xticks(range(len(lines)), [fill(line[1], 12) for line in lines], fontsize=8)
    ax.set_ylim(0.0, 1.05)
    ax.set_ylabel(label)


if __name__ == "__main__":
    main()
