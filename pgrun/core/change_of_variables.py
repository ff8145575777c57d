"""Changes of variables: the density of draws that a function makes of noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def push_forward(f: Callable[[Tensor], Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
    """Compute u = f(ξ) and its log-density, log N(ξ; 0, I) − log |det ∂f/∂ξ|, at draws ξ ~ N(0, I).

    It is the density where f is one-to-one. Where k values of ξ share an image, it is that of one of them, and the sum
    of all k is the density.

    Args:
        f: maps [..., D] to [..., D], each row by itself.
        noise: ξ, [..., D].

    Returns:
        u [..., D] and log q(u) [...].
    """

    def summed(x: Tensor) -> tuple[Tensor, Tensor]:
        u = f(x)
        return u.flatten(0, -2).sum(0), u

    # row by row: ∂ Σ_j f(ξ_j) / ∂ξ_i = ∂f(ξ_i) / ∂ξ_i, since no row depends on another's noise
    jacobian, u = torch.func.jacrev(summed, has_aux=True)(noise)  # [D, ..., D]
    log_det = torch.linalg.slogdet(jacobian.movedim(0, -2)).logabsdet
    log_p = -0.5 * (noise.square() + math.log(2.0 * math.pi)).sum(-1)
    return u, log_p - log_det


def log_det_tanh(u: Tensor) -> Tensor:
    """Compute log |det ∂tanh(u)/∂u|, [...] of u [..., D], with its digits where tanh saturates."""
    return (2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))).sum(-1)
