"""The better half of a batch, weighted by how good it is: the E-step of V-MPO."""

from __future__ import annotations

import torch
from torch import Tensor

from pgrun.core import ranks


def top_half(advantage: Tensor, valid: Tensor) -> Tensor:
    """Mark the valid entries, of all ranks, that are not below their median; of two medians the upper one counts.

    Args:
        advantage: A, [...].
        valid: which entries count, bool [...].

    Returns:
        Half of the valid entries (one more of an odd number), and all that equal the least of these; bool [...].
    """
    of_all_ranks = ranks.concatenated(advantage.masked_fill(~valid, torch.nan).flatten())
    return valid & (advantage >= -(-of_all_ranks).nanmedian())  # torch takes the lower of two medians


def top_half_weights(advantage: Tensor, valid: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
    """Weight the top half by ψ ∝ exp(A/η), which sums to 1 over it, and all else by 0.

    Args:
        advantage: A, [...].
        valid: which entries count, bool [...].
        eta: temperature η, 0-dim.

    Returns:
        ψ, [...], and KL(ψ‖uniform on the top half), 0-dim; both over all ranks' entries.
    """
    top = top_half(advantage, valid)
    logit = (advantage / eta).masked_fill(~top, -torch.inf)
    logit = logit - ranks.largest(logit.max())
    weight = logit.exp()
    z, n, mean = ranks.total(weight.sum(), top.sum().to(weight.dtype), (weight * logit.masked_fill(~top, 0.0)).sum())
    return weight / z, mean / z - z.log() + n.log()
