"""Steps that stay in a trust region, in the space of a distribution's own parameters."""

from __future__ import annotations

import torch
from torch import Tensor


def project_to_trust_region(g: Tensor, k: Tensor, delta: float | Tensor) -> Tensor:
    """Find the z nearest to g with kᵀz ≤ δ, for each of the vectors g, k [..., P].

    z = g − max(0, (kᵀg − δ) / |k|²) k: Wang et al. 2017, https://arxiv.org/abs/1611.01224, eq. 12 and 13. Where k is
    zero the bound holds for all z, and z is g.
    """
    excess = ((k * g).sum(-1, keepdim=True) - delta).clamp(min=0.0)
    return g - excess / k.square().sum(-1, keepdim=True).clamp(min=torch.finfo(k.dtype).tiny) * k
