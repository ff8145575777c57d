"""Draw the bias and variance of policy-gradient estimators against the exact gradient.

    python scripts/estimator_study.py          # about ten seconds; writes results/estimator_study.{csv,png}

The MDP is `pgrun.core.tabular.bridge`: three places in a row, at most five steps, γ = 0.9. All of its 322 trajectories
are enumerated, so means and standard deviations are exact, not sampled (except for the two baselines from a batch of
four, which use 200,000 batches). All figures are in units of |∇J|, so that a standard deviation of 1 means as much
noise as signal. The standard deviation is the square root of the covariance's trace.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from pgrun.core import importance, tabular
from pgrun.core.advantages import GAE, TD, Advantage, RewardToGo, TotalReturn

COMMAND = "python scripts/estimator_study.py"
RESULTS = Path(__file__).parent / "results"
POLICY = torch.tensor([[0.0, 0.2], [0.1, 0.6], [-0.2, 0.0]], dtype=torch.float64)  # logits of wait and go, by place
BEHAVIOUR = POLICY + torch.tensor([[1.0, -0.8], [-0.9, 1.2], [0.6, -1.3]], dtype=torch.float64)  # panel 3's μ
BATCH = 25  # trajectories a batch in panel 2
BLUE, ORANGE, GREY = "#2b6ca3", "#d9541e", "#8a8a8a"
COLOURS = {"total return": "#7b5aa6", "reward-to-go": BLUE, "… − average": "#2a9d8f", "… − V(s)": "#6a9a1f"}


class Study:
    """The bridge, all its trajectories, and the exact mean and variance of an estimator on them."""

    def __init__(self, steps: int = 5, behaviour: Tensor | None = None) -> None:
        self.mdp = mdp = tabular.bridge(steps=steps)
        self.every = tabular.enumerate_trajectories(mdp)
        self.pi = mdp.policy(POLICY)
        acts = self.pi if behaviour is None else mdp.policy(behaviour)
        self.p = tabular.probabilities(self.every, acts)
        self.log_ratio = tabular.log_probs(self.every, self.pi) - tabular.log_probs(self.every, acts)
        self.gradient = mdp.gradient(POLICY)
        self.value = mdp.value(self.pi)
        self.score = tabular.scores(self.every, POLICY)
        self.time = (mdp.gamma ** torch.arange(steps, dtype=torch.float64)).unsqueeze(1)

    def psi(self, advantage: Advantage, value: Tensor | None = None) -> Tensor:
        """Compute Ψ_t [T, N] with a table V(s), which is 0 by default."""
        table = torch.zeros_like(self.value) if value is None else value
        return advantage(self.every.returns(table), self.mdp.gamma)[0]

    def estimates(self, psi: Tensor) -> Tensor:
        """Compute the gradient estimate Σ_t g_t Ψ_t of each trajectory, [N, P]."""
        return torch.einsum("tnp,tn->np", self.score, psi)

    def bias_and_deviation(self, estimates: Tensor) -> tuple[float, float]:
        """Return bias and standard deviation of estimates in units of |∇J|."""
        mean, covariance = tabular.moments(estimates, self.p)
        length = self.gradient.norm()
        return float((mean - self.gradient).norm() / length), float(covariance.trace().sqrt() / length)

    def of(self, psi: Tensor) -> tuple[float, float]:
        """Return bias and standard deviation of one trajectory's estimate with the weights Ψ_t."""
        return self.bias_and_deviation(self.estimates(psi))

    def batch_mean(self, own: bool, n: int = 4, batches: int = 200_000) -> tuple[float, float]:
        """Return bias and standard deviation with a batch's mean return as baseline.

        Args:
            own: whether a trajectory's own return is part of its baseline.
            n: trajectories in a batch; the deviation is scaled to that of a single trajectory.
            batches: how many batches to draw.
        """
        g = torch.Generator().manual_seed(0)
        index = torch.multinomial(self.p, n * batches, replacement=True, generator=g).view(batches, n)
        r = self.psi(TotalReturn())[0][index]
        baseline = r.mean(1, keepdim=True) if own else (r.sum(1, keepdim=True) - r) / (n - 1)
        each = (self.score.sum(0)[index] * (r - baseline).unsqueeze(-1)).mean(1)
        length = self.gradient.norm()
        exact = 1.0 / n if own else 0.0  # the bias is known: (1 − 1/N) ∇J
        assert abs(float((each.mean(0) - self.gradient).norm() / length) - exact) < 0.02
        return exact, float((n * each.var(0).sum()).sqrt() / length)


def estimators(s: Study) -> dict[str, tuple[bool, tuple[float, float]]]:
    """Map each estimator's name to whether theory calls it unbiased, and its bias and standard deviation."""
    to_go = s.psi(RewardToGo())
    weight = s.p * s.every.valid
    average = ((weight * to_go).sum(1) / weight.sum(1)).unsqueeze(1)
    length = s.every.valid.sum(0).unsqueeze(-1)
    half = s.value / 2.0
    a = s.mdp.advantage(s.pi)[s.every.state, s.every.action]
    return {
        "total return": (True, s.of(s.psi(TotalReturn()))),
        "total return − mean of the 3 others": (True, s.batch_mean(own=False)),
        "reward-to-go": (True, s.of(s.time * to_go)),
        "reward-to-go − average at t": (True, s.of(s.time * (to_go - average))),
        "reward-to-go − V(s)": (True, s.of(s.time * s.psi(RewardToGo(), s.value))),
        "GAE λ = 0.9, true V": (True, s.of(s.time * s.psi(GAE(lambda_=0.9), s.value))),
        "TD, true V": (True, s.of(s.time * s.psi(TD(), s.value))),
        "A(s, a)": (True, s.of(s.time * a)),
        "reward-to-go without γᵗ": (False, s.of(to_go)),
        "total return − mean of all 4": (False, s.batch_mean(own=True)),
        "GAE λ = 0.9, V half of what it is": (False, s.of(s.time * s.psi(GAE(lambda_=0.9), half))),
        "TD, V half of what it is": (False, s.of(s.time * s.psi(TD(), half))),
        "reward-to-go, mean over the steps": (False, s.bias_and_deviation(s.estimates(s.time * to_go) / length)),
    }


def draw_estimators(ax: Axes, found: dict[str, tuple[bool, tuple[float, float]]]) -> None:
    """Draw standard deviations as bars, with the bias in figures."""
    names = list(found)
    for i, name in enumerate(names):
        unbiased, (bias, deviation) = found[name]
        y = len(names) - i - (0.0 if unbiased else 0.6)
        ax.barh(y, deviation, color=BLUE if unbiased else ORANGE, height=0.72)
        note = "no bias" if unbiased else f"bias {100 * bias:.0f} %"
        ax.text(deviation + 0.05, y, note, va="center", fontsize=8, color=BLUE if unbiased else ORANGE)
        ax.text(-0.06, y, name, va="center", ha="right", fontsize=8.5)
    ax.set_yticks([])
    ax.set_xlim(0.0, 4.3)
    ax.set_xlabel("standard deviation of one trajectory's estimate, in |∇J|")
    ax.set_title("1  Which are unbiased, and how noisy they are", loc="left")


def draw_lambda(ax: Axes, s: Study, record: list[tuple[str, str, float, float, float]]) -> None:
    """Plot bias, noise and error of GAE over λ with a wrong V."""
    lambdas = torch.linspace(0.0, 1.0, 41).tolist()
    found = [s.of(s.time * s.psi(GAE(lambda_=x), s.value / 2.0)) for x in lambdas]
    record += [("lambda", "GAE, V half of what it is", x, b, d) for x, (b, d) in zip(lambdas, found, strict=True)]
    bias = [b for b, _ in found]
    noise = [d / math.sqrt(BATCH) for _, d in found]
    error = [math.hypot(b, d) for b, d in zip(bias, noise, strict=True)]
    best = min(range(len(error)), key=error.__getitem__)
    ax.plot(lambdas, error, color="black", lw=2.2)
    ax.plot(lambdas, noise, color=BLUE, lw=2.0)
    ax.plot(lambdas, bias, color=ORANGE, lw=2.0)
    ax.plot(lambdas[best], error[best], "o", color="black")
    ax.annotate(
        f"least at λ = {lambdas[best]:.2f}",
        (lambdas[best], error[best]),
        (lambdas[best], error[best] + 0.075),
        ha="center",
        arrowprops={"arrowstyle": "-", "color": "black"},
    )
    ax.text(0.02, error[0] + 0.012, "total error")
    ax.text(0.70, noise[28] - 0.035, "noise", color=BLUE)
    ax.text(0.62, bias[25] + 0.012, "bias", color=ORANGE)
    ax.set_ylim(0.0, 0.45)
    ax.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0\nTD", "0.25", "0.5", "0.75", "1\nMonte Carlo"])
    ax.set_xlabel("λ", labelpad=-8)
    ax.set_ylabel(f"in |∇J|, of a batch of {BATCH}")
    ax.set_title("2  With a wrong V, GAE trades bias for noise", loc="left")


def draw_importance(ax: Axes, record: list[tuple[str, str, float, float, float]]) -> None:
    """Plot standard deviations of importance-weighted estimators over the horizon."""
    lengths = list(range(2, 9))
    lines: dict[str, list[tuple[float, float]]] = {}
    for steps in lengths:
        s, on = Study(steps, BEHAVIOUR), Study(steps)
        r = s.every.returns(torch.zeros_like(s.value))
        whole, decision, alone = (
            f(s.log_ratio, s.every.last, s.every.valid)
            for f in (importance.trajectory, importance.per_decision, importance.per_step)
        )
        to_go = s.psi(RewardToGo())
        weighted = RewardToGo()(r._replace(reward=decision * r.reward), s.mdp.gamma)[0]
        for name, found in (
            ("whole trajectory: Π ρ", s.of(s.time * whole * to_go)),
            ("per decision: Π ρ up to r", s.of(s.time * weighted)),
            ("per step: ρ alone", s.of(s.time * alone * to_go)),
            ("on-policy", on.of(on.time * on.psi(RewardToGo()))),
        ):
            lines.setdefault(name, []).append(found)
            record.append(("horizon", name, float(steps), *found))
    colours = ("#7b5aa6", "#2a9d8f", ORANGE, GREY)
    for (name, points), colour in zip(lines.items(), colours, strict=True):
        y = [d for _, d in points]
        ax.plot(lengths, y, color=colour, lw=2.0, marker="o", ms=4)
        ax.text(8.15, y[-1], name, color=colour, va="center", fontsize=8.5)
    bias = [b for b, _ in lines["per step: ρ alone"]]
    ax.plot(lengths, bias, color=ORANGE, lw=1.6, ls="--")
    ax.text(8.15, bias[-1], "bias of “per step”\n(products have none)", color=ORANGE, va="center", fontsize=8.5)
    ax.set_yscale("log")
    ax.set_xlim(1.8, 11.1)
    ax.set_xticks(lengths)
    ax.set_xlabel("longest episode T")
    ax.set_ylabel("standard deviation, in |∇J|")
    ax.set_title("3  Another policy's data: the price of unbiasedness", loc="left")


def draw_batches(
    ax: Axes,
    s: Study,
    found: dict[str, tuple[bool, tuple[float, float]]],
    record: list[tuple[str, str, float, float, float]],
) -> None:
    """Plot the error over the number of trajectories."""
    sizes = [10 ** (x / 10.0) for x in range(41)]
    lines = {
        "total return": found["total return"],
        "reward-to-go": found["reward-to-go"],
        "… − average": found["reward-to-go − average at t"],
        "… − V(s)": found["reward-to-go − V(s)"],
        "TD, V half of what it is": found["TD, V half of what it is"],
    }
    for name, (_, (bias, deviation)) in lines.items():
        error = [math.hypot(bias, deviation / math.sqrt(n)) for n in sizes]
        record += [("batch", name, n, bias, deviation / math.sqrt(n)) for n in (1.0, 10.0, 100.0, 1000.0, 10000.0)]
        colour = COLOURS.get(name, ORANGE)
        ax.plot(sizes, error, color=colour, lw=2.0, label=name)
    ax.axhline(1.0, color=GREY, lw=0.8, ls=":")
    ax.text(9_500, 1.06, "as much noise as signal", fontsize=8, color=GREY, ha="right", va="bottom")
    ax.text(9_500, 0.31, "all that is left is bias", fontsize=8.5, color=ORANGE, ha="right")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("trajectories a batch")
    ax.set_ylabel("error of the gradient, in |∇J|")
    ax.legend(frameon=False, fontsize=8.5, loc="lower left")
    ax.set_title("4  More data lowers the noise and never the bias", loc="left")


def main() -> None:
    """Compute the figures, draw them, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for estimator_study.csv and .png")
    folder = parser.parse_args().out
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 10.5, "axes.titleweight": "bold"})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(2, 2, figsize=(12.0, 8.4))
    s = Study()
    found = estimators(s)
    record = [("estimator", name, 1.0, *figures) for name, (_, figures) in found.items()]
    draw_estimators(axes[0, 0], found)
    draw_lambda(axes[0, 1], s, record)
    draw_importance(axes[1, 0], record)
    draw_batches(axes[1, 1], s, found, record)
    figure.suptitle(
        "Policy-gradient estimators against the exact ∇J of a small MDP, V a table; lengths in units of |∇J|",
        x=0.012,
        ha="left",
        fontsize=11,
        color="#444444",
    )
    figure.subplots_adjust(left=0.19, right=0.965, top=0.91, bottom=0.065, wspace=0.2, hspace=0.28)
    figure.savefig(folder / "estimator_study.png", dpi=110)
    with (folder / "estimator_study.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["panel", "estimator", "x", "bias", "deviation", "command"])
        writer.writerows([panel, name, f"{x:g}", f"{b:.6f}", f"{d:.6f}", COMMAND] for panel, name, x, b, d in record)


if __name__ == "__main__":
    main()
