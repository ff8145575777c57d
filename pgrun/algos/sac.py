"""Soft actor-critic with a learned temperature."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.algos.base import Algorithm
from pgrun.nn import Network, Twin
from pgrun.nn.models import SquashedActor
from pgrun.optim import GradientStep, flatten_parameters
from pgrun.types import Carry, Obs, Transition


class SAC(Algorithm):
    """Maximum-entropy actor-critic. Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905 (applications paper)."""

    action_spaces = (gym.spaces.Box,)

    def __init__(
        self,
        *,
        obs_space: gym.Space,
        action_space: gym.spaces.Box,
        network: Network,
        optimizer: Callable[..., Any],
        device: str,
        compile: bool,
        gamma: float,
        rollout: int,
        tau: float,
        init_temperature: float,
        target_entropy: float | None,
        max_grad_norm: float | None,
    ) -> None:
        super().__init__(obs_space=obs_space, action_space=action_space)
        self.rollout = rollout  # steps between updates, which the collector takes
        self.gamma, self.tau = gamma, tau
        dim = math.prod(action_space.shape)
        self.target_entropy = -float(dim) if target_entropy is None else target_entropy  # H̄ = −dim(A), table 1
        self.actor = SquashedActor(network, obs_space, action_space)
        self.q = Twin(network, obs_space, action_space, k=2)
        self.q_target = deepcopy(self.q).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(init_temperature)))
        self.place(device)
        self.theta_target = flatten_parameters(self.q_target.parameters())

        def step(parameters: Any, loss: Any, name: str) -> GradientStep:
            return GradientStep(
                self, parameters, loss, optimizer, max_grad_norm=max_grad_norm, compile=compile, name=name
            )

        self.critic_step = step(self.q.parameters(), self.critic_loss, "critic")
        self.actor_step = step(self.actor.parameters(), self.actor_loss, "actor")
        self.temperature_step = step([self.log_alpha], self.temperature_loss, "temperature")

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        pi = self.actor(obs)
        return (pi.sample() if explore else pi.mode()), carry, {}

    def update(self, batch: Transition) -> dict[str, Tensor]:
        noise, next_noise = torch.randn_like(batch.action), torch.randn_like(batch.action)
        with torch.no_grad():
            y = self.target(batch, next_noise)
        metrics = self.critic_step(batch.obs, batch.action, y)
        alpha = self.log_alpha.detach().exp()
        metrics |= self.actor_step(batch.obs, noise, alpha)
        metrics |= self.temperature_step(-metrics["policy/entropy"])
        self.theta_target.lerp_(self.critic_step.theta, self.tau)  # Q̄ ← τQ + (1 − τ)Q̄
        metrics["policy/temperature"] = alpha
        return metrics

    def target(self, batch: Transition, noise: Tensor) -> Tensor:
        """r + γ (min_i Q̄_i(s', a') − α log π(a'|s')), eq. 5 and 6, bootstrapped unless the MDP ended; [M]."""
        action, log_prob = self.actor(batch.next_obs).rsample(noise)
        q = self.q_target(batch.next_obs, action).amin(0)
        return batch.reward + self.gamma * batch.discount * (q - self.log_alpha.exp() * log_prob)

    def critic_loss(self, obs: Obs, action: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """J_Q, eq. 5: Σ_i ½ E[(Q_i(s, a) − y)²]."""
        q = self.q(obs, action)  # [2, M]
        loss = 0.5 * (q - y).square().mean(-1).sum()
        return loss, {"loss/critic": loss.detach(), "value/q": q.detach().mean()}

    def actor_loss(self, obs: Obs, noise: Tensor, alpha: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """J_π, eq. 9: E[α log π(f(ε; s)|s) − min_i Q_i(s, f(ε; s))]."""
        action, log_prob = self.actor(obs).rsample(noise)
        loss = (alpha * log_prob - self.q(obs, action).amin(0)).mean()
        return loss, {"loss/actor": loss.detach(), "policy/entropy": -log_prob.detach().mean()}

    def temperature_loss(self, log_prob: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """J(α), eq. 18, as −log α · (log π + H̄): its sign drives the entropy to the target."""
        loss = -self.log_alpha * (log_prob + self.target_entropy)
        return loss, {"loss/temperature": loss.detach()}
