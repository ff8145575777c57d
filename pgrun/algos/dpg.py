"""Deterministic policy gradient, on-policy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.algos.parts.deterministic_policy import Deterministic
from pgrun.config.ranges import Count
from pgrun.data.types import Obs, Transition, flatten_time, mask_mean
from pgrun.nn import q_functions


class DPG(Deterministic):
    """On-policy DPG: Sarsa for the critic, ∇_θμ(s) ∇_aQ(s, a) for the actor; no replay, no target networks.

    Silver et al. 2014, https://proceedings.mlr.press/v32/silver14, section 4.1, a rollout at a time.

    Args:
        rollout: T, steps in each environment between updates.
    """

    learns_from = "rollouts"
    remembers = False

    def __init__(self, *, rollout: Count, **common: Any) -> None:
        super().__init__(**common)
        self.rollout = rollout  # T, which the collector takes
        self.q = q_functions(self.network, self.obs_space, self.action_space, k=1)
        self.settle()
        self.critic_step = self.gradient_step(self.q.parameters(), self.critic_loss, name="critic")
        self.actor_step = self.gradient_step(self.actor.parameters(), self.actor_loss, name="actor", lr=self.actor_lr)

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Step critic and actor on a rollout; see `Algorithm.update`."""
        with torch.no_grad():
            y = self.target(batch).flatten()
        batch = flatten_time(batch)
        metrics = self.critic_step(batch.obs, batch.action, y, batch.valid)  # eq. 11 and 12
        metrics |= self.actor_step(batch.obs, batch.valid)  # eq. 13
        return metrics

    def target(self, batch: Transition) -> Tensor:
        """Compute r_t + γ Q(s_{t+1}, a_{t+1}), [T, B].

        a_{t+1} is the action taken, or μ(s_{t+1}) where the rollout or episode ends before it.
        """
        taken = torch.cat([batch.action[1:], batch.action[-1:]])
        ends = batch.last.clone()
        ends[-1] = True
        action = torch.where(ends.unsqueeze(-1), self.actor(batch.next_obs), taken)
        rows = flatten_time(batch)
        q = self.q(rows.next_obs, action.flatten(0, 1))[0].view_as(batch.reward)
        return batch.reward + self.gamma * batch.discount * q

    def critic_loss(self, obs: Obs, action: Tensor, y: Tensor, valid: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute ½ E[δ²] with y held: the step is δ ∇_wQ(s, a)."""
        q = self.q(obs, action)[0]
        loss = 0.5 * mask_mean((q - y).square(), valid)
        return loss, {"loss/critic": loss.detach(), "value/q": mask_mean(q.detach(), valid)}

    def actor_loss(self, obs: Obs, valid: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −E[Q(s, μ(s))], whose gradient is −E[∇_θμ(s) ∇_aQ(s, a)]."""
        loss = -mask_mean(self.q(obs, self.actor(obs))[0], valid)
        return loss, {"loss/actor": loss.detach()}
