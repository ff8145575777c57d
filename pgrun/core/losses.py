"""Losses per sample, [M] tensors; the caller averages them."""

from __future__ import annotations

import torch
from torch import Tensor

from pgrun.core import ranks


def policy_gradient(log_prob: Tensor, psi: Tensor) -> Tensor:
    """Compute the pseudo-loss −log π(a_t|s_t) Ψ_t, whose gradient is minus the estimator's."""
    return -log_prob * psi


def clipped_surrogate(ratio: Tensor, advantage: Tensor, epsilon: Tensor) -> Tensor:
    """Compute −min(ρÂ, clip(ρ, 1−ε, 1+ε) Â), Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 7."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1.0 - epsilon, 1.0 + epsilon) * advantage)


def kl_estimate(log_r: Tensor, kind: str) -> Tensor:
    """Estimate KL(π‖π_ref) from an action of π: k1 = −log r, k3 = r − 1 − log r.

    log r = log π_ref(a) − log π(a). Both have the KL as their mean; k3 is never negative. Schulman,
    http://joschu.net/blog/kl-approx.html.
    """
    return -log_r if kind == "k1" else torch.expm1(log_r) - log_r


def value_error(value: Tensor, target: Tensor) -> Tensor:
    """Compute ½ (V(s_t) − target)²."""
    return 0.5 * (value - target).square()


def explained_variance(value: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Compute 1 − Var[target − V] / Var[target] over all ranks' valid entries.

    1 is perfect, 0 no better than a constant.
    """
    weight, error = valid.to(value.dtype), target - value
    n, e, y = ranks.total(weight.sum(), (error * weight).sum(), (target * weight).sum())
    n = n.clamp(min=1.0)

    def squares(x: Tensor, mean: Tensor) -> Tensor:
        return ((x - mean).square() * weight).sum()

    e2, y2 = ranks.total(squares(error, e / n), squares(target, y / n))
    return 1.0 - e2 / n / (y2 / n + 1e-8)
