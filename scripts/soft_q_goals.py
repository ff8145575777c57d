"""Draw where the policies of soft Q-learning, SAC and DDPG go in a world of four equally good goals.

    python scripts/soft_q_goals.py --runs ~/pgrun-goals     # trains missing runs; writes results/soft_q_goals.*

Each is trained once, with seed 0. DDPG's policy is deterministic; the other two are sampled from, as when they explore.
Training takes some minutes; drawing finished runs takes seconds.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle
from omegaconf import OmegaConf
from runs import train
from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.envs.goals import MultiGoal
from pgrun.run import checkpoint
from pgrun.run.build import make_algorithm
from pgrun.run.directory import find_checkpoint, load_run
from pgrun.run.environments import make_env

RESULTS = Path(__file__).parent / "results"
GOALS = MultiGoal.NAMES
COLOURS = {"east": "#2b6ca3", "west": "#d9541e", "north": "#2a9d8f", "south": "#7b5aa6", "none": "#8a8a8a"}
EPISODES = 200  # that shares are counted over
SHOWN = 60  # of which so many are drawn
DRAWS = 400  # actions drawn in the middle


@dataclass(frozen=True)
class Policy:
    """One trained policy, and how it is shown."""

    algo: str
    title: str
    explore: bool  # whether it is drawn from
    overrides: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """Return the command that trains it."""
        return ["pgrun", f"algo={self.algo}", "env=multi_goal", *self.overrides]


SMALL = ("total_steps=20_000", "num_envs=4", "memory.warmup=1_000", "memory.updates=2", "optimizer.lr=1e-3")
POLICIES = (
    Policy("sql", "Soft Q-learning", True),
    Policy("sac", "SAC", True, (*SMALL, "network.hidden=[64,64]", "memory.batch_size=64")),
    Policy("ddpg", "DDPG", False, (*SMALL, "network.hidden=[64,64]", "memory.batch_size=64")),
)


def load(folder: Path, changed: dict[str, Any] | None = None) -> tuple[Algorithm, Any]:
    """Load a run's final algorithm, and make environments for its episodes, with other settings if so asked."""
    state = checkpoint.load(find_checkpoint(folder, "latest"))
    config, _ = load_run(folder, state)
    config.device = config.act_device = "cpu"
    for key, value in (changed or {}).items():
        OmegaConf.update(config, key, value, force_add=True)
    env = make_env(config, EPISODES)
    algorithm = make_algorithm(config, env)
    algorithm.restore(state["algorithm"], optimizers=False)
    return algorithm, env


@torch.no_grad()
def episodes(algorithm: Algorithm, env: Any, explore: bool) -> tuple[list[Tensor], list[str]]:
    """Return the path [T + 1, 2] of each episode, and the goal where it ended, if any."""
    torch.manual_seed(0)
    obs, carry = env.reset(0), algorithm.initial_carry(EPISODES)
    paths: list[list[Tensor]] = [[x] for x in obs]
    ends: dict[int, str] = {}
    while len(ends) < EPISODES:
        action, carry, _ = algorithm.act(obs, carry, explore)
        step = env.step(action)
        for b in range(EPISODES):
            if b not in ends:
                paths[b].append(step.next_obs[b])
        for b in step.last.nonzero().flatten().tolist():
            reached = [name for name in env.world.names if step.streams[f"goal_{name}"][b]]
            ends.setdefault(b, (*reached, "none")[0])
        obs = step.obs
    return [torch.stack(path) for path in paths], [ends[b] for b in range(EPISODES)]


def draw_paths(ax: Axes, world: MultiGoal, paths: list[Tensor], ends: list[str]) -> None:
    """Draw the landscape of distance costs, and the paths across it."""
    grid = torch.linspace(-world.EDGE, world.EDGE, 141)
    plane = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1)
    cost = world.distances(plane).amin(-1).square()
    ax.contourf(grid, grid, cost, levels=12, cmap="Greys", alpha=0.45)
    for path, end in list(zip(paths, ends, strict=True))[:SHOWN]:
        ax.plot(*path.T, color=COLOURS[end], lw=0.9, alpha=0.7, marker=".", ms=2.5)
    for name, (x, y) in zip(GOALS, world.goals.tolist(), strict=True):
        ax.add_patch(Circle((x, y), world.radius, fill=False, ec=COLOURS[name], lw=1.6))
        share = f"{100 * ends.count(name) / len(ends):.0f} %"
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85}
        ax.text(x, y, share, ha="center", va="center", color=COLOURS[name], weight="bold", fontsize=8, bbox=box)
    ax.set_xlim(-world.EDGE, world.EDGE)
    ax.set_ylim(-world.EDGE, world.EDGE)
    ax.set_aspect("equal")
    ax.set_xticks([-5, 0, 5])
    ax.set_yticks([-5, 0, 5])


@torch.no_grad()
def draw_actions(ax: Axes, algorithm: Any, explore: bool) -> None:
    """Draw Q(middle, ·) over the square of actions, and the actions that the policy samples there."""
    grid = torch.linspace(-1.0, 1.0, 81)
    actions = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1).reshape(-1, 2)
    q = algorithm.q(torch.zeros(len(actions), 2), actions).mean(0).reshape(81, 81)
    levels = torch.linspace(float(q.quantile(0.3)), float(q.max()), 14).tolist()
    ax.contourf(grid, grid, q, levels=levels, cmap="YlGnBu", alpha=0.8, extend="min")
    torch.manual_seed(0)
    drawn = algorithm.act(torch.zeros(DRAWS, 2), algorithm.initial_carry(DRAWS), explore)[0]
    if explore:
        ax.plot(*drawn.T, "o", ms=3, color="black", alpha=0.45, mew=0, label=f"{DRAWS} draws")
    else:
        ax.plot(*drawn[:1].T, "X", ms=11, color="#d9541e", mec="white", ls="", label="its one action")
    ax.legend(loc="lower right", fontsize=8.5)
    ax.add_patch(Rectangle((-1, -1), 2, 2, fill=False, ec="black", lw=0.8))
    ax.set_xlim(-1.05, 1.05)
    ax.set_ylim(-1.05, 1.05)
    ax.set_aspect("equal")
    ax.set_xticks([-1, 0, 1])
    ax.set_yticks([-1, 0, 1])


def main() -> None:
    """Train missing runs, then draw and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the run directories")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for soft_q_goals.csv and .png")
    args = parser.parse_args()
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 11, "axes.titleweight": "bold"})
    figure, axes = plt.subplots(2, 3, figsize=(11.0, 7.6))
    table = []
    for column, policy in enumerate(POLICIES):
        folder = args.runs / policy.algo
        if said := train(folder.resolve(), [*policy.command, "seed=0"]):
            print(said)
        algorithm, env = load(folder)
        paths, ends = episodes(algorithm, env, policy.explore)
        draw_paths(axes[0, column], env.world, paths, ends)
        draw_actions(axes[1, column], algorithm, policy.explore)
        axes[0, column].set_title(f"{policy.title}: {len({*ends} - {'none'})} of the 4 goals")
        table += [[policy.algo, name, f"{ends.count(name) / len(ends):.3f}"] for name in (*GOALS, "none")]
        table[-5:] = [[*row, " ".join(policy.command)] for row in table[-5:]]
    axes[0, 0].set_ylabel(f"{SHOWN} episodes from the middle")
    axes[1, 0].set_ylabel("actions drawn in the middle, over Q (dark: high)")
    figure.suptitle(
        "Four equally good goals. Shares of 200 episodes that end at each; below, the policy's first step",
        x=0.012,
        ha="left",
        fontsize=11,
        color="#444444",
    )
    figure.subplots_adjust(left=0.06, right=0.985, top=0.9, bottom=0.045, wspace=0.12, hspace=0.12)
    figure.savefig(args.out / "soft_q_goals.png", dpi=110)
    with (args.out / "soft_q_goals.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["algo", "goal", "share", "command"])
        writer.writerows(table)


if __name__ == "__main__":
    main()
