"""Losses per sample, [M] tensors; the caller averages them."""

from __future__ import annotations

import torch
from torch import Tensor

from pgrun.core import ranks


def policy_gradient(log_prob: Tensor, psi: Tensor) -> Tensor:
    """Compute the pseudo-loss −log π(a_t|s_t) Ψ_t, whose gradient is minus the estimator's."""
    return -log_prob * psi


def clipped_surrogate(
    ratio: Tensor, advantage: Tensor, low: Tensor | float, high: Tensor | float | None = None
) -> Tensor:
    """Compute −min(ρÂ, clip(ρ, 1−ε_low, 1+ε_high) Â), with ε_high = ε_low unless it is given.

    Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 7, with one ε. Two: Yu et al. 2025 (DAPO),
    https://arxiv.org/abs/2503.14476, eq. 10.
    """
    high = low if high is None else high
    free, clipped = ratio * advantage, ratio.clamp(1.0 - low, 1.0 + high) * advantage  # type: ignore[arg-type]
    return -torch.where(free < clipped, free, clipped)  # torch.minimum's gradient takes five kernels more


def outside_clip(ratio: Tensor, low: Tensor | float, high: Tensor | float | None = None) -> Tensor:
    """Tell where ρ lies outside [1−ε_low, 1+ε_high]: 1 there, else 0."""
    excess = ratio - 1.0
    outside = excess.abs() > low if high is None else (excess > high) | (-excess > low)
    return outside.to(ratio.dtype)


def kl_estimate(log_r: Tensor, kind: str) -> Tensor:
    """Estimate KL(π‖π_ref) from an action of π: k1 = −log r, k3 = r − 1 − log r.

    log r = log π_ref(a) − log π(a). Both have the KL as their mean; k3 is never negative. Schulman,
    http://joschu.net/blog/kl-approx.html.
    """
    return -log_r if kind == "k1" else torch.expm1(log_r) - log_r


def value_error(value: Tensor, target: Tensor) -> Tensor:
    """Compute ½ (V(s_t) − target)²."""
    return 0.5 * (value - target).square()


def clipped_value_error(value: Tensor, old: Tensor, target: Tensor, epsilon: float | Tensor) -> Tensor:
    """Compute ½ max((V − V̂)², (V_old + clip(V − V_old, ±ε) − V̂)²), which gains nothing from V farther than ε away.

    Schulman et al. 2016, https://arxiv.org/abs/1506.02438, bound V's change likewise; this form is that of PPO's first
    code, described by Engstrom et al. 2020, https://arxiv.org/abs/2005.12729, section 3.
    """
    bound = torch.as_tensor(epsilon, dtype=value.dtype, device=value.device)
    near = old + torch.clamp(value - old, -bound, bound)
    return torch.maximum(value_error(value, target), value_error(near, target))


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
