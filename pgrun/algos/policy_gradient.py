"""The score-function family: REINFORCE, REINFORCE with a baseline, actor-critic, A2C. One class; Ψ_t is the choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.algos.base import Algorithm, scaled_rewards
from pgrun.core import losses
from pgrun.core.advantages import Advantage, Returns, normalize
from pgrun.core.baselines import Baseline, check_combination
from pgrun.core.returns import steps_since_start
from pgrun.errors import UserError
from pgrun.nn import ActorCritic, Network
from pgrun.nn.normalize import RewardScale
from pgrun.optim import GradientStep
from pgrun.types import Carry, Obs, Transition, mask_mean


class PolicyGradient(Algorithm):
    """∇J = E[Σ_t ∇log π(a_t|s_t) Ψ_t]: one joint loss, one step a rollout.

    REINFORCE: Williams 1992, https://doi.org/10.1007/BF00992696.
    A2C: the synchronous form of Mnih et al. 2016, https://arxiv.org/abs/1602.01783, algorithm S3.
    """

    def __init__(
        self,
        *,
        obs_space: gym.Space,
        action_space: gym.Space,
        network: Network,
        optimizer: Callable[..., Any],
        device: str,
        compile: bool,
        advantage: Advantage,
        baseline: Baseline,
        gamma: float,
        rollout: int | None,
        discount_states: bool,
        normalize_advantage: bool,
        normalize_reward: bool,
        entropy_coef: float,
        value_coef: float,
        max_grad_norm: float | None,
        whole_episodes: bool,
    ) -> None:
        super().__init__(obs_space=obs_space, action_space=action_space)
        if wrong := check_combination(advantage, baseline, whole_episodes):
            raise UserError(wrong)
        self.rollout = rollout  # T, which the collector takes
        self.advantage, self.gamma, self.discount_states = advantage, gamma, discount_states
        self.normalize_advantage = normalize_advantage
        self.entropy_coef, self.value_coef = entropy_coef, value_coef
        self.model = ActorCritic(network, obs_space, action_space, critic=baseline.learned)
        self.reward_scale = RewardScale(gamma) if normalize_reward else None
        self.place(device)
        self.step = GradientStep(
            self, self.model.parameters(), self.loss, optimizer, max_grad_norm=max_grad_norm, compile=compile
        )

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        pi = self.model.actor(obs)
        return (pi.sample() if explore else pi.mode()), carry, {}

    def update(self, batch: Transition) -> dict[str, Tensor]:
        metrics = self.step(batch._replace(reward=scaled_rewards(batch, self.reward_scale)))
        self.model.observe(batch.obs, batch.valid)
        return metrics

    def loss(self, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """The pseudo-loss whose gradient is the estimator's, plus value and entropy terms, on a rollout [T, B]."""
        obs, action, reward, discount, next_obs, last, valid, _ = batch
        pi, value = self.model(obs)
        with torch.no_grad():
            returns = Returns(reward, discount, last, value.detach(), self.model.value(next_obs))
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
