"""Trajectories that began in one state, compared with one another."""

from __future__ import annotations

from torch import Tensor

from pgrun.core import ranks

EPS = 1e-8


def group_relative(r: Tensor, group: int, *, divide: bool) -> Tensor:
    """Â_i = (R_i − mean R) / std R within each group of G neighbours; [B] -> [B]. The variance is the unbiased one.

    Shao et al. 2024, https://arxiv.org/abs/2402.03300, section 4.1.2. Without `divide`, R_i − mean R: Liu et al. 2025,
    https://arxiv.org/abs/2503.20783. Where a group's returns are all the same it is 0: computed in double precision, so
    that rounding makes no difference of them.
    """
    groups = r.double().unflatten(0, (-1, group))  # [B/G, G]
    a = groups - groups.mean(-1, keepdim=True)
    if divide:
        a = a / (groups.std(-1, keepdim=True) + EPS)
    return a.flatten().to(r.dtype)


def undecided(r: Tensor, group: int) -> Tensor:
    """The share of all ranks' groups whose returns are all the same, so that nothing can be learnt; [B] -> []."""
    groups = r.unflatten(0, (-1, group))
    same = (groups == groups[:, :1]).all(-1).to(r.dtype)
    return ranks.mean(r.new_tensor(len(same)), same.mean())


def per_trajectory(valid: Tensor) -> Tensor:
    """Weights with which a mean over all valid steps becomes (1/B) Σ_i (1/|o_i|) Σ_t, a mean of trajectories' means;
    [T, B] bool -> [T, B]. B and the steps are those of all ranks.
    """
    weight = valid.float()
    length = weight.sum(0).clamp(min=1.0)  # |o_i|, [B]
    return weight * (ranks.total(weight.sum()) / (ranks.total_count(weight.shape[1]) * length))
