"""Deterministic policy gradient, off-policy with a compatible critic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pgrun.algos.parts.deterministic_policy import Deterministic
from pgrun.config.ranges import Count
from pgrun.data.types import Obs, Transition, flatten_time, mask_mean, report_errors
from pgrun.errors import UserError
from pgrun.nn.deterministic_actor import jacobian_product
from pgrun.nn.values import Critic


class DPGOffPolicy(Deterministic):
    """COPDAC-Q: off-policy DPG with a compatible critic, Q(s, a) = (a − μ(s))ᵀ ∇_θμ(s)ᵀ w + V(s).

    Silver et al. 2014, https://proceedings.mlr.press/v32/silver14, sections 4.2 and 4.3. The slope of this Q at μ(s)
    biases no gradient. Q is learned by Q-learning from the steps of a noisy policy; V is a network. As w is the natural
    gradient (section 4.3), a step may be along w itself.

    Args:
        rollout: T, steps in each environment between updates.
        natural: step along w, the natural gradient, not along ∇μ ∇μᵀ w.
    """

    compares = True  # a − μ(s) needs the μ(s) that the noise was added to
    remembers = False

    def __init__(self, *, rollout: Count, natural: bool, **common: Any) -> None:
        super().__init__(**common)
        if self.compile_steps:
            raise UserError("compile=true can't trace the forward derivative of algo=dpg_offpolicy; use compile=false")
        self.rollout, self.natural = rollout, natural
        self.v = Critic(self.network.encoder(self.obs_space), self.network)
        self.settle()
        self.actor_step = self.gradient_step(self.actor.parameters(), self.actor_loss, name="actor", lr=self.actor_lr)
        self.w = nn.Parameter(torch.zeros_like(self.actor_step.theta))
        critic = [self.w, *self.v.parameters()]
        self.critic_step = self.gradient_step(critic, self.critic_loss, name="critic")

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Step critic and actor on a rollout or a replay's rows; see `Algorithm.update`."""
        batch = flatten_time(batch) if batch.reward.dim() > 1 else batch  # a rollout, or a replay's rows
        with torch.no_grad():  # eq. 19, where Q(s', μ(s')) = V(s')
            y = batch.reward + self.gamma * batch.discount * self.v(batch.next_obs)
        weight = batch.extras.get("weight")  # of a replay by priority, which gets the errors
        metrics = self.critic_step(batch.obs, batch.action, y, batch.valid, weight)  # eq. 21 and 22
        if weight is not None:
            report_errors(batch, metrics.pop("delta"))
        metrics |= self.actor_step(batch.obs, batch.valid)  # eq. 20, or the natural gradient
        return metrics

    def critic_loss(
        self, obs: Obs, action: Tensor, y: Tensor, valid: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute ½ E[δ²] with y held: the step is δ ∇V(s) for V and δ φ(s, a), φ(s, a) = ∇_θμ(s)(a − μ(s)), for w."""
        mu, slope = jacobian_product(self.actor, obs, self.w)
        q = ((action - mu) * slope).sum(-1) + self.v(obs)
        delta = q - y
        error, metrics = delta.square(), {"value/q": mask_mean(q.detach(), valid)}
        if weight is not None:
            error, metrics["delta"] = weight * error, delta.detach().abs()
        loss = 0.5 * mask_mean(error, valid)
        return loss, {"loss/critic": loss.detach(), **metrics}

    def actor_loss(self, obs: Obs, valid: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute a loss whose gradient is −E[∇_θμ(s) ∇_θμ(s)ᵀ w], or −w."""
        w = self.w.detach()
        if self.natural:
            loss = -torch.dot(w, torch.cat([p.flatten() for p in self.actor.parameters()]))
            return loss, {}
        slope = jacobian_product(self.actor, obs, w)[1].detach()  # ∇_aQ(s, a)
        loss = -mask_mean((self.actor(obs) * slope).sum(-1), valid)
        return loss, {"policy/slope": mask_mean(slope.square().sum(-1), valid).sqrt()}
