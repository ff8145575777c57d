"""Returns as distributions over a fixed support of K atoms z_1 < … < z_K, evenly spaced."""

from __future__ import annotations

import torch
from torch import Tensor


def project_distribution(target: Tensor, p: Tensor, z: Tensor) -> Tensor:
    """Project the distribution with mass p_j at target_j onto the support z.

    Mass between two atoms goes to both, in proportion to nearness; mass beyond the ends goes to the ends. The total
    mass stays the same, and so does the mean where nothing lies beyond the ends. Bellemare et al. 2017,
    https://arxiv.org/abs/1707.06887, eq. 7.

    Args:
        target: positions [..., J].
        p: masses [..., J].
        z: the atoms [K].

    Returns:
        Masses of the atoms, [..., K].
    """
    k = z.shape[0]
    at = (target.clamp(z[0], z[-1]) - z[0]) * ((k - 1) / (z[-1] - z[0]))  # in [0, K − 1], counted in atoms
    if p.is_cuda:  # scatter_add would add in a different order each time
        return by_triangles(at, p, k)
    low = at.floor().clamp(max=k - 2)
    up = p * (at - low)  # [..., J], the upper neighbour's share
    low = low.long()
    out = torch.zeros(*p.shape[:-1], k, dtype=p.dtype, device=p.device)
    return out.scatter_add(-1, low, p - up).scatter_add(-1, low + 1, up)


def by_triangles(at: Tensor, p: Tensor, k: int) -> Tensor:
    """Project as `project_distribution` does, from the side of the atoms: five times the work on a CPU.

    Args:
        at: positions [..., J], counted in atoms.
        p: masses [..., J].
        k: the number of atoms K.
    """
    atoms = torch.arange(k, dtype=p.dtype, device=p.device)
    share = (1.0 - (at.unsqueeze(-1) - atoms).abs()).clamp(min=0.0)  # [..., J, K]
    return (p.unsqueeze(-1) * share).sum(-2)
