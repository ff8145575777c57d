"""The textbooks' definitions as plain loops over one entry at a time; nothing here is recursive or vectorised."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Rollout(NamedTuple):
    """A random rollout [T, B] in float64, with episodes that terminate, truncate, and are cut at its end."""

    reward: Tensor
    discount: Tensor
    last: Tensor
    value: Tensor
    next_value: Tensor


def rollout(length: int, num_envs: int = 6, seed: int = 0) -> Rollout:
    """Column 0 is one open episode, column 1 ends at every step, the others end now and then."""
    g = torch.Generator().manual_seed(seed)
    shape = (length, num_envs)

    def normal() -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    terminated = torch.rand(shape, generator=g) < 0.15
    truncated = torch.rand(shape, generator=g) < 0.15  # both at once happens too, and then nothing is bootstrapped
    terminated[:, 0] = truncated[:, 0] = False
    truncated[:, 1] = True
    return Rollout(normal(), 1.0 - terminated.double(), terminated | truncated, normal(), normal())


def end(last: Tensor, t: int, b: int) -> int:
    """The last step of the episode that step t lies in, or of the rollout."""
    for k in range(t, last.shape[0]):
        if last[k, b]:
            return k
    return last.shape[0] - 1


def start(last: Tensor, t: int, b: int) -> int:
    """The first step of the episode that step t lies in, or of the rollout."""
    for k in range(t, 0, -1):
        if last[k - 1, b]:
            return k
    return 0


def n_step(r: Rollout, t: int, b: int, gamma: float, n: int) -> float:
    """r_t + γ r_{t+1} + … + γ^m V(s_{t+m}), m = n or as many as there are."""
    stop = min(t + n - 1, end(r.last, t, b))
    total = sum(gamma ** (k - t) * float(r.reward[k, b]) for k in range(t, stop + 1))
    return total + gamma ** (stop - t + 1) * float(r.discount[stop, b] * r.next_value[stop, b])


def table(function: Callable[[int, int], Any], like: Tensor) -> Tensor:
    """function(t, b) for every entry, [T, B]."""
    values = [[function(t, b) for b in range(like.shape[1])] for t in range(like.shape[0])]
    return torch.tensor(values, dtype=torch.float64)


def lambda_return(r: Rollout, t: int, b: int, gamma: float, lambda_: float) -> float:
    """(1 − λ) Σ_{n<N} λ^{n−1} G_{t:t+n} + λ^{N−1} G_{t:t+N}, Sutton & Barto 2018, eq. 12.3."""
    steps = end(r.last, t, b) - t + 1
    partial = sum(lambda_ ** (n - 1) * n_step(r, t, b, gamma, n) for n in range(1, steps))
    return (1.0 - lambda_) * partial + lambda_ ** (steps - 1) * n_step(r, t, b, gamma, steps)


def gae(r: Rollout, t: int, b: int, gamma: float, lambda_: float) -> float:
    """Σ_l (γλ)^l δ_{t+l} up to where the trace is cut."""
    total = 0.0
    for k in range(t, end(r.last, t, b) + 1):
        delta = r.reward[k, b] + gamma * r.discount[k, b] * r.next_value[k, b] - r.value[k, b]
        total += (gamma * lambda_) ** (k - t) * float(delta)
    return total
