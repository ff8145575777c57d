"""Soft actor-critic in its first form."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.algos.parts.stochastic_policy import SquashedPolicy
from pgrun.config.ranges import Positive, Scheduled
from pgrun.data.types import Obs, Transition
from pgrun.nn import q_functions
from pgrun.nn.models import SquashedActor
from pgrun.nn.modes import statistics
from pgrun.nn.values import Critic
from pgrun.optim.gradient_step import slow_copy


class SACv1(SquashedPolicy):
    """Maximum-entropy actor-critic with a separate V network and a fixed temperature.

    Haarnoja et al. 2018, https://arxiv.org/abs/1801.01290, algorithm 1. α weighs log π; the paper leaves it at 1 and
    scales the rewards instead.

    Args:
        temperature: α, what entropy is worth in units of the scaled reward.
        reward_scale: rewards are multiplied by this: the paper's way to set the temperature.
    """

    action_spaces = (gym.spaces.Box,)
    elsewhere = "with Discrete actions, use algo=sac_discrete"

    def __init__(self, *, temperature: Scheduled[Positive], reward_scale: Positive, **common: Any) -> None:
        super().__init__(**common)
        self.reward_scale = reward_scale
        self.alpha = self.coefficient("alpha", temperature)
        self.actor = SquashedActor(self.network, self.obs_space, self.action_space)
        self.v = Critic(self.network.encoder(self.obs_space), self.network)
        self.attach_critic(q_functions(self.network, self.obs_space, self.action_space, k=2), target=False)
        self.v_target, self.psi_target = slow_copy(self.v)
        self.statistics += statistics(self.v_target, self.v)
        self.value_step = self.gradient_step(
            self.v.parameters(), self.value_loss, name="value", prepare_args=self.value_args
        )
        self.actor_step = self.gradient_step(self.actor.parameters(), self.actor_loss, name="actor")

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Step V, the Qs and the actor; see `Algorithm.update`."""
        noise = torch.randn_like(batch.action)
        metrics = self.value_step(batch.obs, noise)  # ψ ← ψ − λ∇J_V(ψ)
        metrics |= self.fit(batch)  # θ_i ← θ_i − λ∇J_Q(θ_i)
        metrics |= self.actor_step(batch.obs, noise)  # φ ← φ − λ∇J_π(φ)
        self.update_targets()
        return metrics

    def targets(self) -> list[tuple[Tensor, Tensor]]:
        """Pair ψ̄ with ψ, the one slow copy; see `OffPolicy.targets`."""
        return [(self.psi_target, self.value_step.theta), *self.statistics]

    def target(self, batch: Transition) -> Tensor:
        """Compute Q̂ = r + γ V_ψ̄(s'), eq. 8, bootstrapped unless the MDP ended; [M]."""
        return self.reward_scale * batch.reward + self.gamma * batch.discount * self.v_target(batch.next_obs)

    def value_args(self, obs: Obs, noise: Tensor) -> tuple[Obs, Tensor]:
        """Compute the arguments of V's loss: obs and target."""
        return obs, self.value_target(obs, noise)

    def value_target(self, obs: Obs, noise: Tensor) -> Tensor:
        """Compute V's target min_i Q_i(s, a) − α log π(a|s), eq. 5, with a = f(ε; s) of the present policy; [M]."""
        action, log_prob = self.actor(obs).rsample(noise)
        return self.q(obs, action).amin(0) - self.alpha * log_prob

    def value_loss(self, obs: Obs, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute J_V, eq. 5: E[½ (V(s) − target)²]."""
        v = self.v(obs)
        loss = 0.5 * (v - target).square().mean()
        return loss, {"loss/value": loss.detach(), "value/v": v.detach().mean()}

    def actor_loss(self, obs: Obs, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute J_π, eq. 12: E[α log π(f(ε; s)|s) − min_i Q_i(s, f(ε; s))]."""
        action, log_prob = self.actor(obs).rsample(noise)
        loss = (self.alpha * log_prob - self.q(obs, action).amin(0)).mean()
        return loss, {"loss/actor": loss.detach(), "policy/entropy": -log_prob.detach().mean()}
