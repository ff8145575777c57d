"""Soft actor-critic with a learned temperature."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.algos.parts.stochastic_policy import SquashedPolicy
from pgrun.config.ranges import Count, Positive, Scheduled
from pgrun.data.types import Obs, Transition
from pgrun.nn import q_functions
from pgrun.nn.models import SquashedActor


class SAC(SquashedPolicy):
    """Maximum-entropy actor-critic with a learned temperature.

    Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905 (applications paper).

    Args:
        init_temperature: α at the start.
        target_entropy: H̄ in nats; null: minus the number of action coordinates.
        critics: Q functions; targets are from the least of them.
    """

    action_spaces = (gym.spaces.Box,)
    elsewhere = "with Discrete actions, use algo=sac_discrete"

    def __init__(
        self,
        *,
        init_temperature: Positive,
        target_entropy: Scheduled[float] | None,
        critics: Count = 2,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        dim = math.prod(self.action_space.shape or ())
        target_entropy = -float(dim) if target_entropy is None else target_entropy  # H̄ = −dim(A), table 1
        self.target_entropy = self.coefficient("target_entropy", target_entropy)
        self.actor = SquashedActor(self.network, self.obs_space, self.action_space)
        q = q_functions(self.network, self.obs_space, self.action_space, k=critics)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(init_temperature)))
        self.attach_critic(q)  # after all networks: it moves them to the device
        self.actor_step = self.gradient_step(self.actor.parameters(), self.actor_loss, name="actor")
        self.temperature_step = self.gradient_step([self.log_alpha], self.temperature_loss, name="temperature")

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Step the Qs, the actor and the temperature; see `Algorithm.update`."""
        noise, next_noise = torch.randn_like(batch.action), torch.randn_like(batch.action)
        metrics = self.fit(batch, next_noise)  # J_Q, eq. 5
        alpha = self.log_alpha.detach().exp()
        metrics |= self.actor_step(batch.obs, noise, alpha)
        mean_log_prob = -metrics["policy/entropy"]
        metrics |= self.adapt(mean_log_prob)
        self.update_targets()  # θ̄ ← τθ + (1 − τ)θ̄
        metrics["policy/temperature"] = alpha
        return metrics

    def target(self, batch: Transition, noise: Tensor) -> Tensor:
        """Compute r + γ (min_i Q̄_i(s', a') − α log π(a'|s')), eq. 5 and 6, bootstrapped unless the MDP ended; [M]."""
        action, log_prob = self.actor(batch.next_obs).rsample(noise)
        q = self.q_target(batch.next_obs, action).amin(0)
        return batch.reward + self.gamma * batch.discount * (q - self.log_alpha.exp() * log_prob)

    def actor_loss(self, obs: Obs, noise: Tensor, alpha: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute J_π, eq. 9: E[α log π(f(ε; s)|s) − min_i Q_i(s, f(ε; s))]."""
        action, log_prob = self.actor(obs).rsample(noise)
        loss = (alpha * log_prob - self.q(obs, action).amin(0)).mean()
        return loss, {"loss/actor": loss.detach(), "policy/entropy": -log_prob.detach().mean()}

    def adapt(self, log_prob: Tensor) -> dict[str, Tensor]:
        """Step the temperature."""
        return self.temperature_step(log_prob)

    def temperature_loss(self, log_prob: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute J(α), eq. 18, as −log α · (log π + H̄): its sign drives the entropy to the target."""
        loss = -self.log_alpha * (log_prob + self.target_entropy)
        return loss, {"loss/temperature": loss.detach()}
