"""Ψ_t, what weighs the score ∇log π(a_t|s_t), as a choice.

Each is called with a rollout's [T, B] tensors and returns (Ψ, target): the weight and what V(s_t) is fitted to.
Without a critic, `value` and `next_value` are zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pgrun.core import returns


class Returns(NamedTuple):
    """What an advantage is computed from, all [T, B]."""

    reward: Tensor
    discount: Tensor  # 0 where the MDP terminated, else 1
    last: Tensor  # bool
    value: Tensor  # V(s_t)
    next_value: Tensor  # V(s_{t+1}) at the true successor


class Advantage:
    """A form of Ψ_t. `needs_value`: it makes no sense without a learned V."""

    needs_value = True
    whole_episodes = False  # it needs rollouts of whole episodes

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """-> Ψ [T, B] and the value's target [T, B]."""
        raise NotImplementedError


@dataclass(kw_only=True)
class TotalReturn(Advantage):
    """Ψ_t = Σ_k γ^k r_k − V(s_t), the whole episode's return at each of its steps."""

    needs_value = False
    whole_episodes = True

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        target = returns.reward_to_go(r.reward, r.discount, r.last, torch.zeros_like(r.value), gamma)
        return returns.total_return(r.reward, r.last, gamma) - r.value, target


@dataclass(kw_only=True)
class RewardToGo(Advantage):
    """Ψ_t = G_t − V(s_t), with V standing in for what a cut episode would still have paid."""

    needs_value = False

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        g = returns.reward_to_go(r.reward, r.discount, r.last, r.next_value, gamma)
        return g - r.value, g


@dataclass(kw_only=True)
class TD(Advantage):
    """Ψ_t = δ_t = r_t + γV(s_{t+1}) − V(s_t)."""

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        delta = returns.td_errors(r.reward, r.discount, r.value, r.next_value, gamma)
        return delta, delta + r.value


@dataclass(kw_only=True)
class NStep(Advantage):
    """Ψ_t = G_{t:t+n} − V(s_t); n null looks to the rollout's end, as A3C's listing does."""

    n: int | None

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        if self.n is None:
            target = returns.reward_to_go(r.reward, r.discount, r.last, r.next_value, gamma)
        else:
            target = returns.n_step_returns(r.reward, r.discount, r.last, r.next_value, gamma, self.n)
        return target - r.value, target


@dataclass(kw_only=True)
class GAE(Advantage):
    """Ψ_t = Â_t^{GAE(γ,λ)}, Schulman et al. 2016, https://arxiv.org/abs/1506.02438, eq. 16."""

    lambda_: float

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        a = returns.gae(r.reward, r.discount, r.last, r.value, r.next_value, gamma, self.lambda_)
        return a, a + r.value


def normalize(advantage: Tensor, valid: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over the valid entries. Biases the estimator a little; [...] -> [...]."""
    weight = valid.to(advantage.dtype)
    n = weight.sum()
    mean = (advantage * weight).sum() / n
    centred = (advantage - mean) * weight
    std = (centred.square().sum() / (n - 1.0).clamp(min=1.0)).sqrt()
    return centred / (std + 1e-8)
