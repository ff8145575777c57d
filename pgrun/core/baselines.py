"""Baselines: what is subtracted from the return, a choice beside the advantage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pgrun.core import ranks
from pgrun.core.advantages import KEYS, Advantage
from pgrun.core.returns import steps_since_start


class Baseline:
    """A form of baseline.

    Attributes:
        learned: it is a critic V_φ(s), trained beside the policy.
        of_trajectories: it is computed from the other trajectories of the batch.
        needs_scores: it needs their gradients as well.
        per_parameter: it is a vector, one number for each parameter.
    """

    learned = False
    of_trajectories = False
    needs_scores = False
    per_parameter = False

    def __call__(self, psi: Tensor, last: Tensor, valid: Tensor, weight: Tensor | None = None) -> Tensor:
        """Subtract the baseline from Ψ, where that needs no gradients; all [T, B].

        Args:
            psi: Ψ_t without a baseline.
            last: where episodes end.
            valid: which rows count.
            weight: the importance weight w_t that Ψ_t carries inside it; None: 1. Under another policy's actions w_t
                times the score has mean zero, not the score alone; so b_t is subtracted as w_t b_t.
        """
        return psi


@dataclass(kw_only=True)
class Zero(Baseline):
    """No baseline: V is zero everywhere."""


@dataclass(kw_only=True)
class Value(Baseline):
    """A learned V_φ(s_t), fitted by regression after the advantages are computed, so the estimator stays unbiased.

    The advantage subtracts V itself; this only asks for the critic.
    """

    learned = True


@dataclass(kw_only=True)
class Average(Baseline):
    """The mean b_t of Ψ_t over the batch's other trajectories that are as long: leave-one-out, so unbiased.

    Where there is no other, b_t is 0.
    """

    of_trajectories = True

    def __call__(self, psi: Tensor, last: Tensor, valid: Tensor, weight: Tensor | None = None) -> Tensor:
        """Subtract the others' mean; see `Baseline`."""
        average = average_of_others(psi, last, valid)
        return psi - (average if weight is None else weight * average)


@dataclass(kw_only=True)
class Optimal(Baseline):
    """The constant b* with the least variance, computed from the other trajectories: leave-one-out, so unbiased.

    With g_i = Σ_t ∇log π(a_t|s_t) and ĝ_i = Σ_t ∇log π(a_t|s_t) Ψ_t of trajectory i, b* = E[ĝ·g] / E[g·g]; for the
    total return that is E[‖g‖² R] / E[‖g‖²], Greensmith et al. 2004, https://jmlr.org/papers/v5/greensmith04a.html.
    With `per_parameter` each coordinate has its own, Peters & Schaal 2008,
    https://doi.org/10.1016/j.neunet.2008.02.003, section 3.2: then it is subtracted from the gradient, not from a
    weight of the score.

    Args:
        per_parameter: one for each of the policy's parameters; then with plain and natural steps only.
    """

    per_parameter: bool  # type: ignore[misc]
    of_trajectories = True
    needs_scores = True


def average_of_others(psi: Tensor, last: Tensor, valid: Tensor) -> Tensor:
    """Compute the mean of Ψ at the same step t of the other episodes, [T, B]; 0 where no other is as long.

    Every column begins with an episode's first step; a column may hold several episodes. The others are those of all
    ranks.
    """
    weight = valid.to(psi.dtype)
    t = steps_since_start(last).long().flatten()
    psi_flat = (psi * weight).flatten()
    per_t = psi.new_zeros(ranks.largest_count(len(psi)))
    total, n = ranks.total(per_t.index_add(0, t, psi_flat), per_t.index_add(0, t, weight.flatten()))
    total, n = total[t], n[t]
    return ((total - psi_flat) / (n - 1.0).clamp(min=1.0)).view_as(psi) * (n > 1.0).view_as(psi)


def optimal_of_others(g: Tensor, g_hat: Tensor, per_parameter: bool) -> Tensor:
    """Compute b*_i = Σ_{j≠i} ĝ_j·g_j / Σ_{j≠i} g_j·g_j over N trajectories; 0 where the others have no gradient.

    Args:
        g: Σ_t ∇log π(a_t|s_t) of each trajectory, [N, P].
        g_hat: Σ_t ∇log π(a_t|s_t) Ψ_t of each, [N, P].
        per_parameter: one b* for each coordinate.

    Returns:
        [N], or [N, P] per parameter. The others are those of all ranks.
    """
    product, square = g_hat * g, g.square()
    if not per_parameter:
        product, square = product.sum(-1), square.sum(-1)
    others = 1.0 - torch.eye(len(g), dtype=g.dtype, device=g.device)
    above, below = others @ product, others @ square
    above, below = above + ranks.of_others(product.sum(0)), below + ranks.of_others(square.sum(0))
    return torch.where(below > 0.0, above / below.clamp(min=torch.finfo(g.dtype).tiny), torch.zeros_like(below))


def check_combination(advantage: Advantage, baseline: Baseline, whole_episodes: bool) -> str | None:
    """Describe what is wrong with combining these, or return None."""
    name = KEYS.get(type(advantage).__name__, type(advantage).__name__)
    kind = BASELINES.get(type(baseline).__name__, type(baseline).__name__)
    if wrong := advantage.wrong():
        return wrong
    if advantage.needs_value and baseline.of_trajectories:
        return (
            f"algo/baseline={kind} takes the place of a learned value, which algo/advantage={name} needs: "
            "use algo/advantage=reward_to_go or total_return, or algo/baseline=value"
        )
    if advantage.needs_value and not baseline.learned:
        return (
            f"algo/advantage={name} needs a learned value: add algo/baseline=value, "
            "or use algo/advantage=reward_to_go or total_return"
        )
    if not advantage.of_rewards and baseline.of_trajectories:
        return (
            f"algo/advantage={name} is no return that algo/baseline={kind} could be taken from: "
            "use algo/advantage=reward_to_go or total_return, or algo/baseline=none"
        )
    if advantage.critic != "v" and baseline.of_trajectories:
        return (
            f"algo/advantage={name} has a baseline in its own critic: use algo/baseline=value or none, "
            f"or algo/advantage=reward_to_go or total_return with algo/baseline={kind}"
        )
    if advantage.whole_episodes and not whole_episodes:
        return (
            f"algo/advantage={name} needs whole episodes: add collector=episodes, "
            "or use algo/advantage=reward_to_go, td, nstep or gae"
        )
    if baseline.of_trajectories and not whole_episodes:
        return f"algo/baseline={kind} needs whole episodes: add collector=episodes, or use algo/baseline=value or none"
    return None


# names of the shipped baselines in configs/algo/baseline/
BASELINES = {"Average": "average", "Optimal": "optimal", "Value": "value", "Zero": "none"}
