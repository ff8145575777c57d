"""Measure how much of a policy gradient comes from few episodes, and how often a batch has none of them.

    python scripts/rare_trajectories.py     # a minute; writes results/rare_trajectories.*

REINFORCE's gradient is the sum of its episodes' Σ_t Ψ_t ∇log π(a_t|s_t). An episode's share of it is that vector's
length along the sum, over the sum's own; shares add up to 1. Before training, 4,096 episodes each: on a plane where few
episodes find the goal that alone pays, and on CartPole, where the longest 5 % count as rare. With no baseline, with the
average return, and with the constant of least variance.
"""

from __future__ import annotations

import argparse
import csv
from contextlib import closing
from pathlib import Path

import hydra
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from arms import COLOURS
from torch import Tensor

from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.config.paths import config_dir
from pgrun.config.resolve import resolved
from pgrun.loop.diagnostics import policy_gradients
from pgrun.run.build import build
from pgrun.sweep.resolvers import register_resolvers

RESULTS = Path(__file__).parent / "results"
EPISODES = 4_096
WORLDS = {  # words, and the share of episodes with the highest returns that counts as rare; None: those that are paid
    "sparse plane": (("env=sparse_reach", "env.world.start=[0.3,0.3]", "env.world.spread=0.1"), None),
    "CartPole": (("env=cartpole",), 0.05),
}
BASELINES = ("none", "average", "optimal")
BATCHES = (8, 16, 32, 64, 128, 256)


def gather(words: tuple[str, ...], num_envs: int = 256) -> tuple[Tensor, Tensor, str]:
    """Run an untrained policy's episodes.

    Returns:
        Each episode's part of the gradient [N, P], its return [N], and the command.
    """
    register_resolvers()
    words = ("algo=reinforce", *words, "algo/advantage=total_return", "algo.normalize=none", f"num_envs={num_envs}")
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = resolved(hydra.compose("config", overrides=list(words)))
    parts = build(config)
    gradients: list[Tensor] = []
    returns: list[Tensor] = []
    assert isinstance(parts.algorithm, OnPolicy)
    with closing(parts.collector.env):
        while sum(len(x) for x in returns) < EPISODES:
            batch = parts.collector.collect(parts.algorithm)
            assert batch is not None
            gradients.append(policy_gradients(parts.algorithm, batch))
            returns.append((batch.reward * batch.valid).sum(0))
    return torch.cat(gradients)[:EPISODES].double(), torch.cat(returns)[:EPISODES], " ".join(("pgrun", *words))


def shares(gradients: Tensor) -> Tensor:
    """Compute each episode's share of the sum of gradients [N, P]: ⟨g_i, Σg⟩/‖Σg‖²; [N], which sums to 1."""
    total = gradients.sum(0)
    return gradients @ total / total.square().sum()


def is_rare(returns: Tensor, share: float | None) -> Tensor:
    """Mark the rare episodes: those that are paid at all, or a share of them with the best returns; [N] bool."""
    if share is None:
        return returns > 0
    rare = torch.zeros(len(returns), dtype=torch.bool)
    rare[returns.argsort(descending=True, stable=True)[: round(share * len(returns))]] = True
    return rare


def agreement(gradients: Tensor, size: int, seed: int = 0) -> float:
    """Compute the median cosine of the gradient of a batch of so many episodes with that of all."""
    order = torch.randperm(len(gradients), generator=torch.Generator().manual_seed(seed))
    batches = gradients[order[: len(order) // size * size]].unflatten(0, (-1, size)).sum(1)
    return float(torch.cosine_similarity(batches, gradients.sum(0, keepdim=True), dim=-1).median())


def main() -> None:
    """Measure, write the table, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figure and the table go")
    args = parser.parse_args()
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 10.5, "axes.titleweight": "bold"})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.0))
    table = []
    for ax, (name, (words, share)) in zip(axes, WORLDS.items(), strict=False):
        for baseline, colour in zip(BASELINES, COLOURS, strict=False):
            gradients, returns, command = gather((*words, f"algo/baseline={baseline}"))
            rare, part = is_rare(returns, share), shares(gradients)
            cosines = [agreement(gradients, size) for size in BATCHES]
            squares = gradients.square().sum(1)
            figures = (rare.double().mean(), part[rare].sum(), squares[rare].sum() / squares.sum())
            empty = float((1.0 - rare.double().mean()) ** 32)
            table.append([name, baseline, *(f"{float(x):.3f}" for x in (*figures, empty, cosines[2])), command])
            order = part.sort(descending=True).values.cumsum(0)
            ax.plot(np.linspace(0, 100, len(order)), order, color=colour, label=f"baseline: {baseline}")
            axes[2].plot(
                *(BATCHES, cosines, "o-" if share is None else "s--"), color=colour, label=f"{name}, {baseline}", ms=4
            )
        ax.set_xlabel("episodes with the largest shares, %")
        ax.set_ylabel("their share of the gradient")
        ax.set_title(f"{name}: before training", loc="left")
        ax.set_ylim(0.0, None)
        ax.legend(frameon=False)
    axes[2].set_xscale("log", base=2)
    axes[2].set_xlabel("episodes a batch")
    axes[2].set_ylabel("median cosine with the gradient of all")
    axes[2].set_title("What a batch knows", loc="left")
    axes[2].legend(frameon=False, fontsize=7.5)
    figure.tight_layout()
    figure.savefig(args.out / "rare_trajectories.png", dpi=110)
    with (args.out / "rare_trajectories.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["world", "baseline", "rare", "share", "share_of_squares", "batch_of_32_has_none", "cosine_32", "command"]
        )
        writer.writerows(table)


if __name__ == "__main__":
    main()
