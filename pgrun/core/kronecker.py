"""The Kronecker-factored Fisher matrix of a layer.

Martens & Grosse 2015, https://arxiv.org/abs/1503.05671; convolutions: Grosse & Martens 2016,
https://arxiv.org/abs/1602.01407. A layer y = W ā, where ā is the input with a 1 behind it for the bias, has the score
DW = g āᵀ with g = ∂ log p / ∂y; the layer's block of the Fisher matrix, E[vec DW vec DWᵀ], is taken for A ⊗ S with
A = E[ā āᵀ] and S = E[g gᵀ].
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
    """A 1 behind each row, which meets the bias: [M, i] -> [M, i + 1]."""
    return F.pad(x, (0, 1), value=1.0)


def patches(x: Tensor, kernel: tuple[int, int], stride: int, padding: int, dilation: int) -> Tensor:
    """What a convolution multiplies by its weights, position by position: images [N, C, H, W] -> [L, N, C·h·w]."""
    return F.unfold(x, kernel, dilation, padding, stride).permute(2, 0, 1)


def second_moment(x: Tensor, weight: Tensor) -> Tensor:
    """Σ_m w_m x_m x_mᵀ / Σ_m w_m; x [M, n], weight [M] -> [n, n]."""
    return x.T @ (x * weight.unsqueeze(-1)) / weight.sum().clamp(min=1.0)


def eigen(matrix: Tensor) -> Eigen:
    """The decomposition of a positive semi-definite matrix [n, n]; what rounding brought below 0 is 0."""
    values, vectors = torch.linalg.eigh(matrix)
    return Eigen(values.clamp(min=0.0), vectors)


def solve(gradient: Tensor, a: Eigen, s: Eigen, damping: float) -> tuple[Tensor, Tensor]:
    """(A ⊗ S + λI)⁻¹ vec(G), exactly, in the basis where A ⊗ S is diagonal; and vᵀ (A ⊗ S) v of that v.

    gradient G [o, n], a of A [n, n], s of S [o, o] -> v [o, n], 0-dim.
    """
    curvature = s.values.unsqueeze(-1) * a.values  # the eigenvalues of A ⊗ S, [o, n]
    v = (s.vectors.T @ gradient @ a.vectors) / (curvature + damping)
    return s.vectors @ v @ a.vectors.T, (curvature * v.square()).sum()
