"""Normalise Ψ_t over a batch or an episode, and weigh its steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pgrun.core import ranks, returns


def normalize(advantage: Tensor, valid: Tensor, weight: Tensor | None = None) -> Tensor:
    """Bring the valid entries, of all ranks, to mean 0 and standard deviation 1; [...].

    It biases the estimator a little, as each entry is part of the mean and the deviation.

    Args:
        advantage: Ψ.
        valid: which entries count.
        weight: the importance weight w that Ψ carries inside it; None: 1. The mean is then Σ Ψ / Σ w, subtracted times
            w, as any baseline is: E[w ∇log π] is zero, E[∇log π] is not.
    """
    real = valid.to(advantage.dtype)
    n, total = ranks.total(real.sum(), (advantage * real).sum())
    n = n.clamp(min=1.0)
    if weight is None:
        centred = (advantage - total / n) * real
    else:
        denominator = ranks.total((weight * real).sum()).clamp(min=torch.finfo(real.dtype).tiny)
        centred = (advantage - weight * (total / denominator)) * real
    std = (ranks.total(centred.square().sum()) / (n - 1.0).clamp(min=1.0)).sqrt()
    return centred / (std + 1e-8)


def normalize_episodes(advantage: Tensor, last: Tensor, valid: Tensor, weight: Tensor | None = None) -> Tensor:
    """Bring the steps of each episode to mean 0 and standard deviation 1; [T, B].

    It removes what an episode has over the others, so it biases the estimator more than `normalize`. `weight` is as
    there.
    """
    real = valid.to(advantage.dtype)
    index = returns.episode_index(last)

    def per_episode(x: Tensor) -> Tensor:  # each episode's sum, at all of its steps
        total = x.new_zeros(x.numel()).index_add(0, index.flatten(), (x * real).flatten())
        return total[index]

    n = per_episode(torch.ones_like(advantage)).clamp(min=1.0)
    if weight is None:
        centred = (advantage - per_episode(advantage) / n) * real
    else:
        denominator = per_episode(weight).clamp(min=torch.finfo(real.dtype).tiny)
        centred = (advantage - weight * (per_episode(advantage) / denominator)) * real
    std = (per_episode(centred.square()) / (n - 1.0).clamp(min=1.0)).sqrt()
    return centred / (std + 1e-8)


def steps_weight(last: Tensor, valid: Tensor, reduce: str) -> Tensor:
    """Compute factors of Ψ_t, [T, B], that turn a mean over all M valid steps into another reduction.

    rows: 1. sum: M/N, for the sum over an episode's steps and the mean over the N episodes. mean: M/(N T_i), for the
    mean over an episode's T_i steps and then over the episodes. M and N are of all ranks.
    """
    weight = valid.to(torch.float32)
    if reduce == "rows":
        return torch.ones_like(weight)
    index = returns.episode_index(last)
    n, m = ranks.total((last & valid).sum(), weight.sum())
    n = n.clamp(min=1)
    if reduce == "sum":
        return torch.ones_like(weight) * m / n
    length = weight.new_zeros(weight.numel()).index_add(0, index.flatten(), weight.flatten())[index]
    return m / (n * length.clamp(min=1.0))


Normalize = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


# each maps Ψ, last, valid and the weight inside Ψ to a new Ψ; all [T, B]
NORMALIZE: dict[str, Normalize] = {
    "none": lambda psi, last, valid, weight: psi,
    "episode": normalize_episodes,
    "batch": lambda psi, last, valid, weight: normalize(psi, valid, weight),
}
