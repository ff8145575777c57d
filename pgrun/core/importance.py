"""Importance sampling: learning about a policy π from the actions of another, μ.

Shapes: every argument is [T, B], time-major, with ρ_t = π(a_t|s_t) / μ(a_t|s_t) given as log ρ. `last` marks where an
episode ends or is cut. `valid` is False on filler and padding, where ρ counts as 1 and no sum or mean sees it. A column
may hold several episodes; of one that the rollout cuts, the part that is there counts as an episode.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pgrun.core.returns import linear_scan

WEIGHTS = ("trajectory", "per_decision", "per_step", "none")


def per_step(log_ratio: Tensor, last: Tensor, valid: Tensor) -> Tensor:
    """Compute ρ_t alone: biased, the less the closer π is to μ.

    It is right about the action, not about how often π comes to s_t.
    """
    return _alone(log_ratio, last, valid).exp()


def per_decision(log_ratio: Tensor, last: Tensor, valid: Tensor) -> Tensor:
    """Compute Π_{j≤t} ρ_j from the episode's start, which makes r_t unbiased.

    Precup et al. 2000, section 3, https://scholarworks.umass.edu/cs_faculty_pubs/80.
    """
    return _prefix(log_ratio, last, valid).exp()


def trajectory(log_ratio: Tensor, last: Tensor, valid: Tensor) -> Tensor:
    """Compute Π_j ρ_j over the whole episode, the same at each of its steps: unbiased, with the largest variance."""
    return _whole(log_ratio, last, valid).exp()


def importance_weights(
    kind: str, log_ratio: Tensor, last: Tensor, valid: Tensor, *, self_normalize: bool, clip: float | None
) -> Tensor:
    """Compute the weights of one kind of WEIGHTS, at most `clip`, then perhaps self-normalised; zero where not valid.

    Clipping and self-normalising bias the estimator and lower its variance; self-normalised it stays consistent. The
    mean that becomes 1 is over rows for `per_step` and over episodes for `trajectory`. For `per_decision` it is, at
    each time, over all episodes, an ended one with its last weight: E[Π_{j≤t} ρ_j] = 1 holds over all episodes, not
    over those that reach t.
    """
    if kind == "none":
        return valid.to(log_ratio.dtype)
    log_weight = {"trajectory": _whole, "per_decision": _prefix, "per_step": _alone}[kind](
        log_ratio.double(), last, valid
    )
    w = log_weight.exp()  # float64 has room for products of hundreds of ratios
    if clip is not None:
        w = w.clamp(max=clip)
    if self_normalize:
        w = w / _mean(kind, w, last, valid).clamp(min=torch.finfo(w.dtype).tiny)
    return torch.where(valid, w, 0.0).to(log_ratio.dtype)


def _mean(kind: str, w: Tensor, last: Tensor, valid: Tensor) -> Tensor:
    """Compute the divisor of self-normalised weights; it broadcasts against w."""
    real = valid.to(w.dtype)
    if kind == "per_step":
        return (w * real).sum() / real.sum().clamp(min=1.0)
    step, final = steps(last, valid), final_steps(last, valid)
    ends = final.to(w.dtype)
    n = ends.sum().clamp(min=1.0)  # episodes
    if kind == "trajectory":
        return (w * ends).sum() / n
    size = w.shape[0] + 1
    reach = w.new_zeros(size).index_add(0, step.flatten(), (w * real).flatten())  # Σ over the episodes that reach t
    ended = w.new_zeros(size).index_add(0, (step + 1).clamp(max=size - 1).flatten(), (w * ends).flatten())
    return ((reach + ended.cumsum(0)) / n)[step]


def _alone(log_ratio: Tensor, last: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, log_ratio, 0.0)


def _prefix(log_ratio: Tensor, last: Tensor, valid: Tensor) -> Tensor:
    """Sum log ρ_j over j ≤ t from the episode's start."""
    return _forward(torch.where(valid, log_ratio, 0.0), last)


def _whole(log_ratio: Tensor, last: Tensor, valid: Tensor) -> Tensor:
    """Sum log ρ_j over the episode: the part up to t, plus the part from t on, minus t itself."""
    x = torch.where(valid, log_ratio, 0.0)
    return _forward(x, last) + linear_scan(x, (~last).to(x.dtype)) - x


def _forward(x: Tensor, last: Tensor) -> Tensor:
    """Sum from each episode's start, [T, B]."""
    go_on = torch.cat([torch.zeros_like(last[:1]), ~last[:-1]]).to(x.dtype)
    return linear_scan(x.flip(0), go_on.flip(0)).flip(0)


def steps(last: Tensor, valid: Tensor) -> Tensor:
    """Count t within each episode, over valid rows only; [T, B] int64."""
    count = _forward(valid.to(torch.float64), last)
    return (count - 1.0).clamp(min=0.0).long()


def final_steps(last: Tensor, valid: Tensor) -> Tensor:
    """Mark the last valid row of each episode, or of the part that is there; [T, B] bool."""
    ahead = linear_scan(valid.to(torch.float64), (~last).to(torch.float64))  # valid rows from t to the episode's end
    return valid & (ahead == 1.0)


class VTrace(NamedTuple):
    """The targets of V(s_t), the weights of the score, and the estimates of Q(s_t, a_t); all [T, B]."""

    target: Tensor  # v_t
    advantage: Tensor
    q: Tensor  # r_t + γ v_{t+1}


def v_trace(
    reward: Tensor,
    discount: Tensor,
    last: Tensor,
    value: Tensor,
    next_value: Tensor,
    log_ratio: Tensor,
    gamma: float | Tensor,
    *,
    lambda_: float = 1.0,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
) -> VTrace:
    """Compute V-trace targets v_t and the advantages ρ_t (r_t + γ v_{t+1} − V(s_t)).

    Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, eq. 1 and section 4.2; λ as in its remark 2.
    """
    ratio = log_ratio.exp()
    rho, c = ratio.clamp(max=rho_bar), lambda_ * ratio.clamp(max=c_bar)
    delta = rho * (reward + gamma * discount * next_value - value)
    target = value + linear_scan(delta, gamma * discount * c * (~last).to(delta.dtype))  # v_t
    # v_{t+1}, or V(s_{t+1}) where the trace is cut
    ahead = torch.cat([torch.where(last[:-1], next_value[:-1], target[1:]), next_value[-1:]])
    q = reward + gamma * discount * ahead
    return VTrace(target, rho * (q - value), q)


def retrace(
    reward: Tensor,
    discount: Tensor,
    last: Tensor,
    next_value: Tensor,
    q: Tensor,
    trace: Tensor,
    gamma: float | Tensor,
) -> Tensor:
    """Compute Retrace targets Q^ret_t, [T, B].

    Q^ret_t = r_t + γ V(s_{t+1}) + γ c_{t+1} (Q^ret_{t+1} − Q(s_{t+1}, a_{t+1})), with V(s) = E_π[Q(s, ·)]. Munos et al.
    2016, https://arxiv.org/abs/1606.02647, eq. 3 and 4, as ACER writes it (Wang et al. 2017,
    https://arxiv.org/abs/1611.01224, eq. 5). `trace` is c_t: λ min(1, ρ_t), or 1 for the uncorrected Q^opc. γ is
    gamma · discount_t, as in `returns`.
    """
    gamma_t = gamma * discount
    c = gamma_t[:-1] * trace[1:] * (~last[:-1]).to(q.dtype)  # γ_t c_{t+1}, zero where the trace is cut
    x = reward + gamma_t * next_value
    return linear_scan(torch.cat([x[:-1] - c * q[1:], x[-1:]]), torch.cat([c, torch.zeros_like(q[:1])]))
