"""The soft value V(s) = α log ∫ exp(Q(s, a)/α) da, in the three forms that it can be computed in."""

from __future__ import annotations

import math

from torch import Tensor


def sampled_value(q: Tensor, log_proposal: Tensor | float, alpha: float | Tensor) -> Tensor:
    """α log E_{a~q'}[exp(Q(s, a)/α) / q'(a)], the mean over n draws; Q [n, ...], log q' likewise -> [...].

    Haarnoja et al. 2017, https://arxiv.org/abs/1702.08165, eq. 10. By Jensen's inequality it is on average too low,
    the less so the more draws.
    """
    return alpha * ((q / alpha - log_proposal).logsumexp(0) - math.log(q.shape[0]))


def exact_value(q: Tensor, alpha: float | Tensor) -> Tensor:
    """α log Σ_a exp(Q(s, a)/α), the same with discrete actions; Q [..., A] -> [...]."""
    return alpha * (q / alpha).logsumexp(-1)


def policy_value(q: Tensor, log_pi: Tensor, alpha: float | Tensor) -> Tensor:
    """Σ_a π(a|s) [Q(s, a) − α log π(a|s)], what a policy of discrete actions has of it; Q, log π [..., A] -> [...].

    Christodoulou 2019, https://arxiv.org/abs/1910.07207, eq. 10. At most the exact value, which π ∝ exp(Q/α) attains.
    """
    return (log_pi.exp() * (q - alpha * log_pi)).sum(-1)
