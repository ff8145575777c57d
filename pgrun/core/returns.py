"""Returns and advantages, all computed by one linear recurrence.

Shapes: every argument is [T, B], time-major. `discount` is 0 where the MDP terminated and 1 elsewhere; `last` marks the
end of an episode, by termination or by truncation, and no trace crosses it. What takes both `gamma` and `discount`
discounts step t by γ_t = gamma · discount_t: a discount that differs by step may be given as either, [T, B].
"""

from __future__ import annotations

import torch
from torch import Tensor


def linear_scan(x: Tensor, a: Tensor) -> Tensor:
    """Compute y_t = x_t + a_t · y_{t+1}, with y_T = 0; x, a and y are [T, ...].

    It uses recursive doubling (Blelloch 1990, https://www.cs.cmu.edu/~guyb/papers/Ble93.pdf, section 1.4): ⌈log2 T⌉
    vector operations instead of T.
    """
    if x.shape != a.shape:
        raise ValueError(f"linear_scan takes two tensors of one shape, not {tuple(x.shape)} and {tuple(a.shape)}")
    length, step = x.shape[0], 1
    while step < length:
        y = x.clone()
        y[:-step] += a[: length - step] * x[step:]
        a = a[: max(length - 2 * step, 0)] * a[step : length - step]  # as many as the next round reads
        x, step = y, 2 * step
    return x


def td_errors(reward: Tensor, discount: Tensor, value: Tensor, next_value: Tensor, gamma: float | Tensor) -> Tensor:
    """Compute δ_t = r_t + γ V(s_{t+1}) − V(s_t), bootstrapped unless the MDP terminated; [T, B]."""
    return reward + gamma * discount * next_value - value


def gae(
    reward: Tensor,
    discount: Tensor,
    last: Tensor,
    value: Tensor,
    next_value: Tensor,
    gamma: float | Tensor,
    lambda_: float,
) -> Tensor:
    """Compute generalised advantage estimates, Â_t = Σ_l (γλ)^l δ_{t+l}; [T, B].

    Schulman et al. 2016, https://arxiv.org/abs/1506.02438, eq. 16.
    """
    delta = td_errors(reward, discount, value, next_value, gamma)
    return linear_scan(delta, gamma * lambda_ * discount * (~last).to(delta.dtype))


def lambda_returns(
    reward: Tensor,
    discount: Tensor,
    last: Tensor,
    next_value: Tensor,
    gamma: float | Tensor,
    lambda_: float,
) -> Tensor:
    """Compute λ-returns, G_t^λ = r_t + γ ((1 − λ) V(s_{t+1}) + λ G_{t+1}^λ), Sutton & Barto 2018, eq. 12.20; [T, B].

    Where a trace is cut (an episode's or the rollout's end), G_{t+1}^λ is V(s_{t+1}).
    """
    trace = lambda_ * (~last).to(reward.dtype)
    trace[-1] = 0.0
    return linear_scan(reward + gamma * discount * (1.0 - trace) * next_value, gamma * discount * trace)


def reward_to_go(reward: Tensor, discount: Tensor, last: Tensor, next_value: Tensor, gamma: float | Tensor) -> Tensor:
    """Compute G_t = Σ_{k≥t} γ^{k−t} r_k, plus the discounted value where the episode was cut, not ended; [T, B]."""
    return lambda_returns(reward, discount, last, next_value, gamma, 1.0)


def n_step_returns(
    reward: Tensor,
    discount: Tensor,
    last: Tensor,
    next_value: Tensor,
    gamma: float | Tensor,
    n: int,
) -> Tensor:
    """Compute G_{t:t+n}, Sutton & Barto 2018, eq. 7.1; fewer steps at an episode's or the rollout's end; [T, B].

    G_{t:t+1} = r_t + γ_t V(s_{t+1}) and G_{t:t+k} = r_t + γ_t G_{t+1:t+k} where t is not last: n vector operations.
    """
    gamma_t = gamma * discount
    one = reward + gamma_t * next_value  # G_{t:t+1}
    go_on = ~last[:-1]
    target = one
    for _ in range(min(n, reward.shape[0]) - 1):
        target = torch.cat([torch.where(go_on, reward[:-1] + gamma_t[:-1] * target[1:], one[:-1]), one[-1:]])
    return target


def total_return(reward: Tensor, last: Tensor, gamma: float) -> Tensor:
    """Compute R = Σ_k γ^k r_k of the whole episode, the same at all its steps; [T, B].

    Every column must begin with an episode's first step. A column may hold several episodes.
    """
    first = torch.cat([torch.ones_like(last[:1]), last[:-1]])  # [T, B]
    go_on = (~last).to(reward.dtype)
    g = linear_scan(reward, gamma * go_on)  # [T, B] reward-to-go
    # carry g at an episode's first step forward to all of its steps: the same recurrence, run backwards in time
    start = torch.where(first, g, torch.zeros_like(g))
    return linear_scan(start.flip(0), (~first).to(g.dtype).flip(0)).flip(0)


def steps_since_start(last: Tensor) -> Tensor:
    """Count t within each episode, for γ^t; [T, B] float32.

    Every column must begin with an episode's first step.
    """
    first = torch.cat([torch.ones_like(last[:1]), last[:-1]])
    one = (~first).to(torch.float32)
    return linear_scan(one.flip(0), one.flip(0)).flip(0)


def episode_index(last: Tensor) -> Tensor:
    """Number the episode that each step lies in, below T·B; [T, B] int64. A rollout's start begins an episode."""
    first = torch.cat([torch.ones_like(last[:1]), last[:-1]])
    b = last.shape[1]
    return (first.cumsum(0) - 1) * b + torch.arange(b, device=last.device)


def discounted_sums(reward: Tensor, last: Tensor, gamma: float, start: Tensor) -> tuple[Tensor, Tensor]:
    """Compute R_t = γ R_{t−1} + r_t forwards, from 0 after each episode's end.

    Args:
        reward: [T, B].
        last: where episodes end, [T, B].
        gamma: γ.
        start: R_{−1} [B].

    Returns:
        R [T, B], and the start of the next rollout [B].
    """
    first = torch.cat([torch.zeros_like(last[:1]), last[:-1]])
    x = torch.cat([(reward[:1] + gamma * start), reward[1:]])
    total = linear_scan(x.flip(0), gamma * (~first).to(x.dtype).flip(0)).flip(0)
    return total, torch.where(last[-1], torch.zeros_like(start), total[-1])
