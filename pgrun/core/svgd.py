"""Stein variational gradient descent and Langevin sampling: draws from a density known up to a constant.

Shapes: n particles, ... any batch, D coordinates. `slope` is ∇_x log p at the particles.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def median_bandwidth(x: Tensor) -> Tensor:
    """Compute the bandwidth h = med² / log(n + 1) of the distances between particles x [n, ..., D]; [...].

    Liu & Wang 2016, https://arxiv.org/abs/1608.04471, section 5: Σ_j κ(x_i, x_j) ≈ n exp(−med²/h) ≈ 1.
    """
    n = x.shape[0]
    i, j = torch.triu_indices(n, n, 1, device=x.device)
    squares = (x[i] - x[j]).square().sum(-1)  # [n(n − 1)/2, ...]
    return (squares.median(0).values / math.log(n + 1.0)).clamp(min=1e-6)


def direction(x: Tensor, slope: Tensor, h: Tensor) -> Tensor:
    """Compute φ*(x_i) = 1/n Σ_j [κ(x_j, x_i) ∇log p(x_j) + ∇_{x_j} κ(x_j, x_i)], κ(x, x') = exp(−‖x − x'‖²/h).

    Of all directions in the kernel's unit ball, it lowers KL(particles ‖ p) fastest: Liu & Wang, eq. 8.

    Args:
        x: the particles [n, ..., D].
        slope: ∇log p at each [n, ..., D].
        h: the kernel's bandwidth [...].

    Returns:
        The direction of each particle, [n, ..., D].
    """
    apart = x.unsqueeze(0) - x.unsqueeze(1)  # [i, j, ..., D]: x_j − x_i
    kappa = (-apart.square().sum(-1) / h).exp().unsqueeze(-1)  # [i, j, ..., 1]
    repulsion = -2.0 * apart * kappa / h.unsqueeze(-1)  # ∇_{x_j} κ(x_j, x_i)
    return (kappa * slope.unsqueeze(0) + repulsion).mean(1)


def langevin(x: Tensor, slope: Tensor, step: float, noise: Tensor) -> Tensor:
    """Take a Langevin step, x + ½ε∇log p(x) + √ε η; x, slope, noise [..., D].

    Many steps draw from p, up to a bias of order ε. The drift is tamed, ½ε∇log p / (1 + ½ε‖∇log p‖), so that no steep
    place throws a chain out (Brosse et al. 2019, https://arxiv.org/abs/1710.05559, eq. 3).
    """
    drift = 0.5 * step * slope
    return x + drift / (1.0 + drift.norm(dim=-1, keepdim=True)) + math.sqrt(step) * noise
