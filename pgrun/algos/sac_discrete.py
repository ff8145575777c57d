"""Soft actor-critic with discrete actions."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.algos.parts.off_policy import OffPolicy
from pgrun.config.ranges import Fraction, Positive, Scheduled
from pgrun.core.soft import policy_value
from pgrun.data.types import Carry, Obs, Transition, action_mask
from pgrun.nn.models import Actor
from pgrun.nn.q import DiscreteQ


class SACDiscrete(OffPolicy):
    """SAC with exact sums as expectations over actions. Christodoulou 2019, https://arxiv.org/abs/1910.07207.

    Args:
        init_temperature: α at the start.
        entropy_fraction: H̄ as a share of log |A|, the entropy of uniform actions.
    """

    action_spaces = (gym.spaces.Discrete,)
    q: DiscreteQ
    q_target: DiscreteQ

    def __init__(self, *, init_temperature: Positive, entropy_fraction: Scheduled[Fraction], **common: Any) -> None:
        super().__init__(**common)
        self.entropy_fraction = self.coefficient("entropy_fraction", entropy_fraction)
        self.actor = Actor(self.network, self.obs_space, self.action_space)
        q = DiscreteQ(self.network, self.obs_space, self.action_space, k=2)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(init_temperature)))
        self.attach_critic(q)
        self.actor_step = self.gradient_step(self.actor.parameters(), self.actor_loss, name="actor")
        self.temperature_step = self.gradient_step([self.log_alpha], self.temperature_loss, name="temperature")

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Sample from π, or take its mode; see `Algorithm.act`."""
        obs, carry, recorded = self.recall(obs, carry)
        pi = self.actor(obs)
        return (pi.sample() if explore else pi.mode()), carry, recorded

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Step the Qs, the actor and the temperature; see `Algorithm.update`."""
        alpha = self.log_alpha.detach().exp()
        metrics = self.fit(batch, alpha)  # J_Q, eq. 4
        metrics |= self.actor_step(batch.obs, alpha)
        metrics |= self.temperature_step(metrics["policy/entropy"], self.target_entropy(batch.obs))
        self.update_targets()
        metrics["policy/temperature"] = alpha
        return metrics

    def target(self, batch: Transition, alpha: Tensor) -> Tensor:
        """Compute r + γ V(s'), bootstrapped unless the MDP ended; [M]."""
        return batch.reward + self.gamma * batch.discount * self.value(batch.next_obs, alpha)

    def value(self, obs: Obs, alpha: Tensor) -> Tensor:
        """Compute V(s) = π(s)ᵀ [min_i Q̄_i(s) − α log π(s)], eq. 10; [M]."""
        return policy_value(self.q_target.all(obs).amin(0), self.actor(obs).logits.log_softmax(-1), alpha)

    def actor_loss(self, obs: Obs, alpha: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute J_π, eq. 12: E[π(s)ᵀ (α log π(s) − min_i Q_i(s))]."""
        pi = self.actor(obs)
        loss = -policy_value(self.q.all(obs).amin(0).detach(), pi.logits.log_softmax(-1), alpha).mean()
        return loss, {"loss/actor": loss.detach(), "policy/entropy": pi.entropy().detach().mean()}

    def target_entropy(self, obs: Obs) -> Tensor:
        """Compute H̄, a share of the mean of log |A(s)|, A(s) the actions that obs["action_mask"] allows."""
        if (mask := action_mask(obs)) is not None:
            legal = (mask != 0).sum(-1).clamp(min=1)
            return self.entropy_fraction * legal.to(self.log_alpha.dtype).log().mean()
        greatest = math.log(self.action_space.n)  # type: ignore[attr-defined]
        return torch.full_like(self.log_alpha, greatest, requires_grad=False) * self.entropy_fraction

    def temperature_loss(self, entropy: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute J(α), eq. 11, as log α · (H(π) − H̄): its sign drives the entropy to the target."""
        loss = self.log_alpha * (entropy - target)
        return loss, {"loss/temperature": loss.detach()}
