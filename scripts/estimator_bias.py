"""Measure the bias of every combination of weights, Ψ, baseline, normalisation and collector, exactly.

    python scripts/estimator_bias.py            # half a minute; writes scripts/results/estimator_bias.csv
    python scripts/estimator_bias.py --markdown # the same as a table

Two states, two actions, episodes of one or two steps: all batches of two trajectories are enumerated, each weighted by
its probability under the acting policy μ, and the mean of the algorithm's own gradient is compared with the exact one
of the policy π. Critics are set to the exact values. Columns of the table:

- bias: |mean − ∇J| / |∇J| over batches of two trajectories, where nothing is normalised.
- angle: degrees between ∇J and the gradient of one batch of a thousand trajectories, which holds each as often as its
  probability says. This is the bias that remains in large batches. Normalisation changes only the length, so it is
  right where the angle is 0.

With collector=rollouts two steps are taken from the start, and an episode may begin anew in between. Then ∇J is the
expected sum of I_t ∇log π(a_t|s_t) A(s_t, a_t) over those steps, with as many beginnings as the acting policy makes:
the weights correct for an episode's actions, not for how often the data begins one.
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.algos.offpolicy_pg import OffPolicyPG
from pgrun.algos.policy_gradient import PolicyGradient
from pgrun.core.advantages import GAE, TD, Advantage, LearnedAdvantage, NStep, Ones, Q, RewardToGo, TotalReturn, VTrace
from pgrun.core.baselines import Average, Baseline, Optimal, Value, Zero
from pgrun.core.importance import WEIGHTS
from pgrun.core.mixture import Mixture
from pgrun.core.normalization import NORMALIZE
from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.nn import MLP
from pgrun.optim.rules import SGD

RESULTS = Path(__file__).resolve().parent / "results" / "estimator_bias.csv"
GAMMA = 0.8
REWARD = torch.tensor([[1.0, -0.5], [2.0, -1.0]])  # [S, A]; after s0 a0 comes s1, after all else the end
PI = torch.tensor([[0.7, 0.3], [0.4, 0.6]])
MU = torch.tensor([[0.4, 0.6], [0.7, 0.3]])
V = torch.stack([PI[0] @ REWARD[0] + PI[0, 0] * GAMMA * (PI[1] @ REWARD[1]), PI[1] @ REWARD[1]])
Q_TABLE = REWARD + GAMMA * torch.tensor([[1.0, 0.0], [0.0, 0.0]]) * V[1]

OWN = "own data"  # of the policy itself, by the on-policy algorithm
ADVANTAGES: dict[str, Callable[[], Advantage]] = {
    "total_return": TotalReturn,
    "reward_to_go": RewardToGo,
    "td": TD,
    "nstep": lambda: NStep(n=2),
    "gae": lambda: GAE(lambda_=0.6),
    "vtrace": lambda: VTrace(rho_bar=None, c_bar=None),
    "q": lambda: Q(center=True, dueling=False, lambda_=1.0),
    "a": lambda: LearnedAdvantage(lambda_=1.0),
    "mixture": lambda: Mixture(
        terms={"td": TD(), "reward_to_go": RewardToGo()}, weights={"td": 0.5, "reward_to_go": 0.5}
    ),
    "mixture with total_return": lambda: Mixture(
        terms={"total_return": TotalReturn(), "reward_to_go": RewardToGo()},
        weights={"total_return": 0.5, "reward_to_go": 0.5},
    ),
    "ones": Ones,
}
BASELINES: dict[str, Callable[[], Baseline]] = {
    "none": Zero,
    "value": Value,
    "average": Average,
    "optimal": lambda: Optimal(per_parameter=False),
    "optimal, per parameter": lambda: Optimal(per_parameter=True),
}
COLLECTORS = ("episodes", "rollouts")
HEADER = ("weights", "advantage", "baseline", "normalize", "collector", "bias", "angle")


@dataclass(frozen=True)
class Row:
    """One combination and its figures; None for a figure that means nothing there."""

    weights: str
    advantage: str
    baseline: str
    normalize: str
    collector: str
    refused: bool
    bias: float | None = None
    angle: float | None = None


def make(row: Row) -> PolicyGradient:
    """Make a combination's algorithm, with the policy π and an exact critic.

    Raises:
        UserError: the combination is refused.
    """
    advantage = ADVANTAGES[row.advantage]()
    episodes = row.collector == "episodes"
    network = MLP(
        hidden=[],
        activation="tanh",
        init_gain=1.0,
        head_gain=1.0,
        shared=False,
        log_std_init=0.0,
        normalize_obs=False,
    )
    settings: dict[str, Any] = {
        "obs_space": gym.spaces.Box(0.0, 1.0, (2,), np.float32),
        "action_space": gym.spaces.Discrete(2),
        "network": network,
        "optimizer": functools.partial(SGD, lr=0.0, schedule="constant", momentum=0.0),  # the gradient, and no step
        "device": "cpu",
        "compile": False,
        "gamma": GAMMA,
        "normalize_reward": False,
        "entropy_coef": 0.0,
        "value_coef": 0.5,
        "max_grad_norm": None,
        "update": "rollout",
        "rollout": 2,
        "whole_episodes": episodes,
        "discount_states": not advantage.discounted,
        "normalize": row.normalize,
        "reduce": "sum" if episodes else "rows",
        "advantage": advantage,
        "baseline": BASELINES[row.baseline](),
    }
    if row.weights == OWN:
        algorithm = PolicyGradient(**settings)
    else:
        settings |= {"weights": row.weights, "self_normalize": False, "weight_clip": None}
        algorithm = OffPolicyPG(**settings)
    with torch.no_grad():
        for parameter, value in zip(algorithm.model.actor.parameters(), (PI.log().T, torch.zeros(2)), strict=True):
            parameter.copy_(value)
        if algorithm.model.critic is not None:
            tables = {"v": V.unsqueeze(0), "q": Q_TABLE.T, "a": torch.cat([V.unsqueeze(0), (Q_TABLE - V[:, None]).T])}
            weight, bias = algorithm.model.critic.parameters()
            weight.copy_(tables[advantage.critic])
            bias.zero_()
    return algorithm


Trajectory = list[tuple[int, int, bool]]  # (state, action, whether the episode ends) of each step


def trajectories(collector: str, acts: Tensor) -> Iterator[tuple[float, Trajectory]]:
    """List every trajectory from one environment, with its probability under the acting policy."""
    for a, b in itertools.product(range(2), repeat=2):
        if a == 0 or collector == "rollouts":
            state, after = (1, True) if a == 0 else (0, b == 1)
            yield float(acts[0, a] * acts[state, b]), [(0, a, a == 1), (state, b, after)]
        elif b == 0:
            yield float(acts[0, 1]), [(0, 1, True)]


def batch_of(paths: list[Trajectory], acts: Tensor) -> Transition:
    """Put trajectories into the columns of one rollout [2, N]."""
    size = (2, len(paths))
    states, actions = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.int64)
    last, valid = torch.ones(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
    time = torch.ones(size)
    for n, path in enumerate(paths):
        for t, (s, a, ends) in enumerate(path):
            states[t, n], actions[t, n], last[t, n], valid[t, n] = s, a, ends, True
            time[t, n] = GAMMA if s == 1 else 1.0
    eye = torch.eye(2)
    return Transition(
        obs=eye[states],
        action=actions,
        reward=torch.where(valid, REWARD[states, actions], 0.0),
        discount=(~last).float(),
        next_obs=eye[torch.where(last, 0, 1)],
        last=last,
        valid=valid,
        extras={"I": time, "log_prob": acts[states, actions].log()},
    )


def exact_gradient(collector: str, acts: Tensor) -> Tensor:
    """Compute ∇J in the logits [S, A] of π.

    It is E[Σ_t I_t ∇log π(a_t|s_t) A(s_t, a_t)] over the steps that a collector takes.
    """
    score = PI * (Q_TABLE - V[:, None])  # Σ_a π(a|s) ∇log π(a|s) A(s, a)
    visits = torch.tensor([1.0, GAMMA * PI[0, 0]])
    if collector == "rollouts":
        visits[0] += acts[0, 1]  # an episode that begins anew after one step
    return visits[:, None] * score


def gradient(algorithm: PolicyGradient, batch: Transition, collector: str) -> Tensor:
    """Compute the algorithm's gradient of one batch, in the logits [S, A]."""
    algorithm.update(batch)
    weight = next(iter(algorithm.model.actor.parameters()))
    assert weight.grad is not None
    return -weight.grad.T.clone() * (2.0 if collector == "rollouts" else 1.0)  # a mean over two steps as their sum


def measure(row: Row, *, angle: bool = True) -> Row:
    """Return the combination with its figures, or marked as refused."""
    try:
        algorithm = make(row)
    except UserError:
        return replace(row, refused=True)
    acts = PI if row.weights == OWN else MU
    truth = exact_gradient(row.collector, acts)
    every = list(trajectories(row.collector, acts))
    bias = None
    if row.normalize == "none":
        mean = torch.zeros(2, 2)
        for pair in itertools.product(every, repeat=2):
            probability = pair[0][0] * pair[1][0]
            mean += probability * gradient(algorithm, batch_of([path for _, path in pair], acts), row.collector)
        bias = float((mean - truth).norm() / truth.norm())
        if row.advantage == "ones":
            bias = float(mean.norm())  # its mean is zero, and no gradient of J
    if not angle or row.advantage == "ones":
        return replace(row, bias=bias)
    many = [path for probability, path in every for _ in range(round(1000 * probability))]
    limit = gradient(algorithm, batch_of(many, acts), row.collector)
    cosine = float((limit * truth).sum() / (limit.norm() * truth.norm()).clamp(min=1e-12))
    return replace(row, bias=bias, angle=float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))))


def combinations() -> Iterator[Row]:
    """List all combinations that a user can ask for."""
    choices = ((OWN, *WEIGHTS), ADVANTAGES, BASELINES, NORMALIZE, COLLECTORS)
    for weights, advantage, baseline, normalize, collector in itertools.product(*choices):
        yield Row(weights, advantage, baseline, normalize, collector, refused=False)


def table() -> list[Row]:
    """Measure every combination."""
    return [measure(row) for row in combinations()]


def lines(rows: list[Row]) -> list[tuple[str, ...]]:
    """Format the rows of the table for the file, without refused ones."""
    return [
        (r.weights, r.advantage, r.baseline, r.normalize, r.collector, shown(r.bias, 3), shown(r.angle, 1))
        for r in rows
        if not r.refused
    ]


def shown(x: float | None, digits: int) -> str:
    """Format a figure for the file; empty for None, 0 for rounding errors."""
    return "" if x is None else f"{0.0 if abs(x) < 2e-4 else x:.{digits}f}"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print it as Markdown instead of writing it")
    arguments = parser.parse_args()
    found = lines(table())
    if arguments.markdown:
        print("\n".join("| " + " | ".join(line) + " |" for line in (HEADER, ("---",) * len(HEADER), *found)))
        return
    with RESULTS.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *found])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
