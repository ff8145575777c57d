"""Three ways to compute the soft value V(s) = α log ∫ exp(Q(s, a)/α) da."""

from __future__ import annotations

import math

from torch import Tensor


def sampled_value(q: Tensor, log_proposal: Tensor | float, alpha: float | Tensor) -> Tensor:
    """Estimate the soft value from n draws of a proposal: α log E_{a~q'}[exp(Q(s, a)/α) / q'(a)].

    Haarnoja et al. 2017, https://arxiv.org/abs/1702.08165, eq. 10. By Jensen's inequality it is on average too low, the
    less so the more draws.

    Args:
        q: Q(s, a) of the draws, [n, ...].
        log_proposal: log q'(a), likewise.
        alpha: α.
    """
    return alpha * ((q / alpha - log_proposal).logsumexp(0) - math.log(q.shape[0]))


def exact_value(q: Tensor, alpha: float | Tensor) -> Tensor:
    """Compute α log Σ_a exp(Q(s, a)/α) of discrete actions, [...], from Q [..., A]."""
    return alpha * (q / alpha).logsumexp(-1)


def policy_value(q: Tensor, log_pi: Tensor, alpha: float | Tensor) -> Tensor:
    """Compute Σ_a π(a|s) [Q(s, a) − α log π(a|s)], the soft value of a policy of discrete actions, [...].

    Christodoulou 2019, https://arxiv.org/abs/1910.07207, eq. 10. It is at most the exact value, which π ∝ exp(Q/α)
    attains. Q and log π are [..., A].
    """
    return (log_pi.exp() * (q - alpha * log_pi)).sum(-1)
