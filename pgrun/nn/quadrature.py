"""Sums that take the place of means under a Gaussian."""

from __future__ import annotations

import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor


def normal_nodes(dimensions: int, count: int) -> tuple[Tensor, Tensor]:
    """Compute nodes ε_i and weights w_i with E[f(ε)] ≈ Σ_i w_i f(ε_i) for ε ~ N(0, I); the weights sum to 1.

    In one dimension it is Gauss-Hermite quadrature, exact for polynomials up to degree 2·count − 1. In more it is a
    quasi-random sample: Sobol points (Owen-scrambled, always alike) through the inverse normal distribution function,
    in pairs ±ε, and rotated and stretched to the covariance I: exact for polynomials up to degree 3.

    Args:
        dimensions: n.
        count: m; in several dimensions the next even number, 2n at least.

    Returns:
        ε [m, n] and w [m], float64.
    """
    if dimensions == 1:
        x, w = hermegauss(count)
        return torch.from_numpy(x).unsqueeze(-1), torch.from_numpy(w / w.sum())
    half = max((count + 1) // 2, dimensions)
    sobol = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=0)
    tiny = torch.finfo(torch.float32).eps
    z = torch.special.ndtri(sobol.draw(half, dtype=torch.float64).clamp(tiny, 1.0 - tiny))
    u, _, v = torch.linalg.svd(z, full_matrices=False)
    z = half**0.5 * (u @ v)  # the nearest to z with zᵀz / half = I
    return torch.cat([z, -z]), torch.full((2 * half,), 0.5 / half, dtype=torch.float64)
