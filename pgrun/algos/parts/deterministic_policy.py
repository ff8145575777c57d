"""Parts that deterministic policies share: exploration noise and, with replay, slow copies of actor and critic."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.algos.parts.off_policy import OffPolicy
from pgrun.algos.parts.remembering import Remembering
from pgrun.config.ranges import Positive, Scheduled
from pgrun.core.noise import ActionNoise
from pgrun.data.types import Carry, Obs
from pgrun.errors import UserError
from pgrun.nn.deterministic_actor import DeterministicActor
from pgrun.nn.modes import statistics
from pgrun.optim.gradient_step import slow_copy


class Deterministic(Remembering):
    """A deterministic policy μ(s), learned along ∇_θμ(s) ∇_aQ(s, a) at a = μ(s).

    Silver et al. 2014, https://proceedings.mlr.press/v32/silver14

    Args:
        exploration: the noise on actions.
        actor_lr: the actor's learning rate; None: the optimizer's, which is the critic's.
    """

    action_spaces = (gym.spaces.Box,)

    def __init__(self, *, exploration: ActionNoise, actor_lr: Scheduled[Positive] | None, **common: Any) -> None:
        super().__init__(**common)
        if not isinstance(exploration, ActionNoise):
            name = type(exploration).__name__
            raise UserError(f"{name} is no noise for continuous actions; use algo/exploration=gaussian, ou or none")
        self.exploration, self.actor_lr = exploration, actor_lr
        self.actor = DeterministicActor(self.network, self.obs_space, self.action_space)

    def initial_carry(self, num_envs: int) -> Carry:
        """Return the networks' memory and the noise's at an episode's start; see `Algorithm.initial_carry`."""
        noise = self.exploration.initial(num_envs, self.actor.edge.numel(), self.device)
        return *super().initial_carry(num_envs), *noise

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Choose μ(s), with noise to explore; see `Algorithm.act`."""
        obs, carry, recorded = self.recall(obs, carry)
        action = self.actor(obs)
        if explore:
            own = len(super().initial_carry(0))  # the networks' part of the carry; the rest is the noise's
            action, noise = self.exploration(action, carry[own:])
            action, carry = torch.clamp(action, -self.actor.edge, self.actor.edge), (*carry[:own], *noise)
        return action, carry, recorded


class DeterministicReplay(Deterministic, OffPolicy):
    """A policy μ and a critic Q learned from replay, and copies μ̄ and Q̄ that follow them slowly."""

    def attach_critic(self, q: nn.Module, *, target: bool = True) -> None:
        """Take the Q functions, copy the actor and make its step; see `OffPolicy.attach_critic`."""
        super().attach_critic(q, target=target)
        self.actor_target, self.phi_target = slow_copy(self.actor)
        self.statistics += statistics(self.actor_target, self.actor)
        self.actor_step = self.gradient_step(self.actor.parameters(), self.actor_loss, name="actor", lr=self.actor_lr)

    def targets(self) -> list[tuple[Tensor, Tensor]]:
        """Pair Q̄ with Q and μ̄ with μ; see `OffPolicy.targets`."""
        return [*super().targets(), (self.phi_target, self.actor_step.theta)]

    def actor_loss(self, obs: Obs) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the actor's loss, −E[Q(s, μ(s))]."""
        raise NotImplementedError
