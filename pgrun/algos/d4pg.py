"""Distributed distributional deterministic policy gradient."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from torch import Tensor

from pgrun.algos.parts.deterministic_policy import DeterministicReplay
from pgrun.config.ranges import Range
from pgrun.core.categorical import project_distribution
from pgrun.data.types import Obs, Transition
from pgrun.errors import UserError
from pgrun.nn.deterministic_actor import atom_critic


class D4PG(DeterministicReplay):
    """DDPG with a distributional critic, n-step returns, prioritised replay and K actors.

    Barth-Maron et al. 2018, https://arxiv.org/abs/1804.08617, algorithm 1, with a categorical distribution. The replay
    makes the n-step returns and, by priority, the weights; the actors are the environments.

    Args:
        atoms: of the return's distribution, evenly from v_min to v_max.
        v_min: the least discounted return that there is, of these rewards and this γ.
        v_max: the greatest discounted return that there is.
    """

    z: Tensor

    def __init__(self, *, atoms: Annotated[int, Range(2)], v_min: float, v_max: float, **common: Any) -> None:
        super().__init__(**common)
        if not -math.inf < v_min < v_max < math.inf:
            raise UserError(
                f"algo.v_min={v_min} must be below algo.v_max={v_max}, both finite: returns lie between them"
            )
        self.register_buffer("z", torch.linspace(v_min, v_max, atoms), persistent=False)
        self.attach_critic(atom_critic(self.network, self.obs_space, self.action_space, atoms))

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Fit the critic, step the actor, move the targets; see `Algorithm.update`."""
        metrics = self.fit(batch)
        metrics |= self.actor_step(batch.obs)
        self.update_targets()
        return metrics

    def target(self, batch: Transition) -> Tensor:
        """Project the distribution of r + γ Z̄(s', μ̄(s')) onto the support; [M, K]."""
        p = self.q_target(batch.next_obs, self.actor_target(batch.next_obs)).softmax(-1)
        discount = self.gamma * batch.discount
        return project_distribution(batch.reward.unsqueeze(-1) + discount.unsqueeze(-1) * self.z, p, self.z)

    def critic_loss(
        self, obs: Obs, action: Tensor, y: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute E[−Σ_k y_k log p_k(s, a)]; a row's priority is KL(y‖p).

        That is the row's cross-entropy less the entropy of y, which no p can go below.
        """
        log_p = self.q(obs, action).log_softmax(-1)
        cross = -(y * log_p).sum(-1)  # [M]
        metrics = {"value/q": (log_p.detach().exp() @ self.z).mean()}
        if weight is not None:
            metrics["delta"] = (cross.detach() + torch.xlogy(y, y).sum(-1)).clamp(min=0.0)
            cross = weight * cross
        loss = cross.mean()
        return loss, {"loss/critic": loss.detach(), **metrics}

    def actor_loss(self, obs: Obs) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −E[Q(s, μ(s))], with Q the mean of Z."""
        loss = -(self.q(obs, self.actor(obs)).softmax(-1) @ self.z).mean()
        return loss, {"loss/actor": loss.detach()}
