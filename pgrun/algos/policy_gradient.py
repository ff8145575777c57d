"""The score-function family: REINFORCE, REINFORCE with a baseline, actor-critic, A2C. One class; Ψ_t is the choice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.algos.on_policy import OnPolicy
from pgrun.core import losses
from pgrun.core.advantages import Returns, normalize
from pgrun.core.returns import steps_since_start
from pgrun.types import Transition, mask_mean


class PolicyGradient(OnPolicy):
    """∇J = E[Σ_t ∇log π(a_t|s_t) Ψ_t]: one joint loss, one step a rollout.

    REINFORCE: Williams 1992, https://doi.org/10.1007/BF00992696.
    A2C: the synchronous form of Mnih et al. 2016, https://arxiv.org/abs/1602.01783, algorithm S3.
    """

    def __init__(
        self,
        *,
        discount_states: bool,
        normalize_advantage: bool,
        entropy_coef: float,
        value_coef: float,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.discount_states, self.normalize_advantage = discount_states, normalize_advantage
        self.entropy_coef, self.value_coef = entropy_coef, value_coef
        self.step = self.gradient_step(self.model.parameters(), self.loss)

    def update(self, batch: Transition) -> dict[str, Tensor]:
        metrics = self.step(self.scaled(batch))
        self.model.observe(batch)
        return metrics

    def loss(self, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """The pseudo-loss whose gradient is the estimator's, plus value and entropy terms, on a rollout [T, B]."""
        _, action, reward, discount, _, last, valid, _ = batch
        pi, value = self.model(batch)
        with torch.no_grad():
            returns = Returns(reward, discount, last, value.detach(), self.model.next_value(batch))
            psi, target = self.advantage(returns, self.gamma)  # Ψ_t, and what V(s_t) is fitted to
            explained = losses.explained_variance(value, target, valid)
            if self.normalize_advantage:
                psi = normalize(psi, valid)
            if self.discount_states:
                psi = psi * self.gamma ** steps_since_start(last)  # Sutton & Barto 2018, section 13.3
        policy = mask_mean(losses.policy_gradient(pi.log_prob(action), psi), valid)  # −E[log π(a|s) Ψ]
        entropy = mask_mean(pi.entropy(), valid)
        critic = mask_mean(losses.value_error(value, target), valid)
        total = policy + self.value_coef * critic - self.entropy_coef * entropy
        return total, {
            "loss/policy": policy.detach(),
            "loss/value": critic.detach(),
            "policy/entropy": entropy.detach(),
            "value/explained_variance": explained,
        }
