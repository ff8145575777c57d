"""Advantages of trajectories that began in one state, compared with one another."""

from __future__ import annotations

from torch import Tensor

from pgrun.core import ranks

EPS = 1e-8


def group_relative(r: Tensor, group: int, *, divide: bool) -> Tensor:
    """Compute Â_i = (R_i − mean R) / std R within each group of G neighbours; [B], the variance unbiased.

    Shao et al. 2024, https://arxiv.org/abs/2402.03300, section 4.1.2. Without `divide`, R_i − mean R: Liu et al. 2025,
    https://arxiv.org/abs/2503.20783. It is 0 where all returns of a group are the same; double precision keeps rounding
    from making a difference there.
    """
    groups = r.double().unflatten(0, (-1, group))  # [B/G, G]
    a = groups - groups.mean(-1, keepdim=True)
    if divide:
        a = a / (groups.std(-1, keepdim=True) + EPS)
    return a.flatten().to(r.dtype)


def undecided(r: Tensor, group: int) -> Tensor:
    """Compute the share of all ranks' groups whose returns are all the same, so that nothing can be learnt; 0-dim.

    Args:
        r: returns [B].
        group: trajectories in a group.
    """
    groups = r.unflatten(0, (-1, group))
    same = (groups == groups[:, :1]).all(-1).to(r.dtype)
    return ranks.mean(r.new_tensor(len(same)), same.mean())


def per_trajectory(valid: Tensor) -> Tensor:
    """Weigh the steps so that a mean over all valid steps is a mean of the trajectories' means, [T, B].

    That mean is (1/B) Σ_i (1/|o_i|) Σ_t; B and the steps are those of all ranks.
    """
    weight = valid.float()
    length = weight.sum(0).clamp(min=1.0)  # |o_i|, [B]
    return weight * (ranks.total(weight.sum()) / (ranks.total_count(weight.shape[1]) * length))
