"""The Kronecker-factored Fisher matrix of a layer.

Martens & Grosse 2015, https://arxiv.org/abs/1503.05671; convolutions: Grosse & Martens 2016,
https://arxiv.org/abs/1602.01407. A layer is y = W ā, where ā is the input with a 1 behind it for the bias. Its score is
DW = g āᵀ with g = ∂ log p / ∂y. Its block of the Fisher matrix, E[vec DW vec DWᵀ], is approximated by A ⊗ S with A =
E[ā āᵀ] and S = E[g gᵀ].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Eigen(NamedTuple):
    """A symmetric matrix as U diag(d) Uᵀ."""

    values: Tensor  # d [n], ascending and not below 0
    vectors: Tensor  # U [n, n]


def homogeneous(x: Tensor) -> Tensor:
    """Append a 1 to each row, for the bias: [M, i] becomes [M, i + 1]."""
    return F.pad(x, (0, 1), value=1.0)


def patches(x: Tensor, kernel: tuple[int, int], stride: int, padding: int, dilation: int) -> Tensor:
    """Cut images [N, C, H, W] into the patches that a convolution multiplies by its weights, [L, N, C·h·w]."""
    return F.unfold(x, kernel, dilation, padding, stride).permute(2, 0, 1)


def second_moment(x: Tensor, weight: Tensor) -> Tensor:
    """Compute Σ_m w_m x_m x_mᵀ / Σ_m w_m, [n, n], of x [M, n] and weight [M]."""
    return x.T @ (x * weight.unsqueeze(-1)) / weight.sum().clamp(min=1.0)


def eigen(matrix: Tensor) -> Eigen:
    """Decompose a positive semi-definite matrix [n, n]; eigenvalues that rounding brought below 0 become 0."""
    values, vectors = torch.linalg.eigh(matrix)
    return Eigen(values.clamp(min=0.0), vectors)


def solve(gradient: Tensor, a: Eigen, s: Eigen, damping: float) -> tuple[Tensor, Tensor]:
    """Compute v = (A ⊗ S + λI)⁻¹ vec(G) exactly, and vᵀ (A ⊗ S) v.

    It works in the basis where A ⊗ S is diagonal.

    Args:
        gradient: G [o, n].
        a: the decomposition of A [n, n].
        s: the decomposition of S [o, o].
        damping: λ.

    Returns:
        v [o, n] and the quadratic form, 0-dim.
    """
    curvature = s.values.unsqueeze(-1) * a.values  # the eigenvalues of A ⊗ S, [o, n]
    v = (s.vectors.T @ gradient @ a.vectors) / (curvature + damping)
    return s.vectors @ v @ a.vectors.T, (curvature * v.square()).sum()
