"""Multi-agent deep deterministic policy gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.algos.parts.off_policy import OffPolicy
from pgrun.config.ranges import Count, NotNegative, Positive, Scheduled
from pgrun.core.gumbel import gumbel_like
from pgrun.core.noise import ActionNoise
from pgrun.data.types import Carry, Obs, Transition
from pgrun.errors import UserError
from pgrun.nn.joint import JointAction, JointActors, JointCritics
from pgrun.optim.gradient_step import slow_copy


class MADDPG(OffPolicy):
    """Multi-agent DDPG: Lowe et al. 2017, https://arxiv.org/abs/1706.02275, algorithm 1, one minibatch for all agents.

    Critics see all agents, actors their own observations. No parameter is shared: one step of all is a step of each.

    Args:
        exploration: the noise on actions that are numbers; choices are explored by being drawn.
        actor_lr: the actors' learning rate; None: the optimizer's, which is the critics'.
        temperature: τ of the gradient through samples.
        logit_penalty: weight of the mean square of the actors' outputs, which keeps choices from becoming certain.
        ensembles: K sub-policies of each agent, one drawn for each episode (section 4.3).
        infer_policies: bootstrap from what each agent infers of the others' policies (section 4.2), not from them.
        infer_entropy: λ, the weight of the inferred policies' entropy (eq. 7).
    """

    action_spaces = (gym.spaces.Dict,)
    elsewhere = "it learns several agents: use env=simple_spread or another of env=pettingzoo, with agents=joint"
    central: ClassVar[bool] = True
    remembers = False

    def __init__(
        self,
        *,
        exploration: ActionNoise,
        actor_lr: Scheduled[Positive] | None,
        temperature: Scheduled[Positive],
        logit_penalty: NotNegative,
        ensembles: Count,
        infer_policies: bool,
        infer_entropy: NotNegative,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if not isinstance(exploration, ActionNoise):
            name = type(exploration).__name__
            raise UserError(f"{name} is no noise for continuous actions; use algo/exploration=gaussian, ou or none")
        self.exploration, self.logit_penalty = exploration, logit_penalty
        self.temperature = self.coefficient("temperature", temperature)
        self.ensembles, self.infer_entropy = ensembles, infer_entropy
        self.own_steps = ensembles > 1  # each row is one sub-policy's
        sees, does = self.obs_space, self.action_space
        assert isinstance(sees, gym.spaces.Dict)
        assert isinstance(does, gym.spaces.Dict)
        n = len(does)
        self.joint = JointAction(does)
        self.actor = JointActors(self.network, sees, does, ensembles)  # μ_1 … μ_N, K of each
        self.q = JointCritics(self.network, sees, does, central=self.central)  # Q_1 … Q_N
        self.inferred = JointActors(self.network, sees, does, n) if infer_policies else None  # μ̂_i^j
        self.settle()
        self.q_target, self.theta_target = slow_copy(self.q)
        self.actor_target, self.phi_target = slow_copy(self.actor)
        self.critic_step = self.gradient_step(
            self.q.parameters(), self.critic_loss, name="critic", prepare_args=self.critic_args, learners=n
        )
        self.actor_step = self.gradient_step(
            self.actor.parameters(), self.actor_loss, name="actor", lr=actor_lr, learners=n * ensembles
        )
        if self.inferred is not None:
            self.inferred_target, self.psi_target = slow_copy(self.inferred)
            self.infer_step = self.gradient_step(
                self.inferred.parameters(), self.infer_loss, name="inferred", lr=actor_lr, learners=n * n
            )

    def initial_carry(self, num_envs: int) -> Carry:
        """Draw sub-policies and start the noise; see `Algorithm.initial_carry`."""
        noise = self.exploration.initial(num_envs, len(self.joint.edge), self.device)
        return (*self.draw(num_envs), *noise)

    def draw(self, num_envs: int) -> Carry:
        """Draw each agent's sub-policy for an episode, [B, N]; () where there is one."""
        if self.ensembles == 1:
            return ()
        return (torch.randint(self.ensembles, (num_envs, len(self.joint.widths)), device=self.device),)

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Draw choices and add noise to numbers, to explore; see `Algorithm.act`."""
        extras, tags = ({}, ()) if self.ensembles == 1 else ({"sub_policy": carry[0]}, carry[:1])
        u = self.followed(self.actor(obs), extras)
        action = self.joint(u, gumbel_like(u) if explore else None)
        if explore and self.joint.numbers:
            noisy, memory = self.exploration(action, carry[len(tags) :])
            noisy = torch.clamp(noisy, -self.joint.edge, self.joint.edge)
            action, carry = torch.where(self.joint.chosen, action, noisy), (*tags, *memory)
        return action, carry, extras

    def followed(self, u: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Pick the outputs [M, A] of the sub-policies that acted, of u [K, M, A] of all."""
        if self.ensembles == 1:
            return u.squeeze(0)
        return u.gather(0, extras["sub_policy"][:, self.joint.agent].unsqueeze(0)).squeeze(0)

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Fit the critics, step the actors, move the targets; see `Algorithm.update`."""
        metrics = {} if self.inferred is None else self.infer_step(batch.obs, batch.action)
        metrics |= self.fit(batch, gumbel_like(batch.action))
        metrics |= self.actor_step(batch.obs, batch.action, batch.extras, gumbel_like(batch.action))
        self.update_targets()
        return metrics

    def target(self, batch: Transition, noise: Tensor) -> Tensor:
        """Compute y_i = r_i + γ Q̄_i(x', a'_1, …, a'_N), a'_j = μ̄_j(o'_j), eq. 6, or inferred by i, eq. 8; [N, M]."""
        action = self.joint(self.followed(self.actor_target(batch.next_obs), batch.extras), noise)
        if self.inferred is not None:
            others = self.joint(self.inferred_target(batch.next_obs), noise.expand(len(self.joint.own), -1, -1))
            action = torch.where(self.joint.own, action, others)
        return batch.reward.T + self.gamma * batch.discount.T * self.q_target(batch.next_obs, action)

    def actor_loss(
        self, obs: Obs, action: Tensor, extras: dict[str, Tensor], noise: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −Σ_i E[Q_i(x, a_1, …, μ_i(o_i), …, a_N)]; its gradient is eq. 5's, or eq. 9's with sub-policies."""
        u = self.followed(self.actor(obs), extras)
        mu = self.joint(u, noise, self.temperature)
        q = self.q(obs, torch.where(self.joint.own, mu, action))
        loss = -q.mean(-1).sum()
        penalty = (self.joint.share * u.square().mean(0)).sum()
        return loss + self.logit_penalty * penalty, {"loss/actor": loss.detach()}

    def infer_loss(self, obs: Obs, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −Σ_{i,j} E[log μ̂_i^j(a_j|o_j) + λH(μ̂_i^j)], eq. 7, on the minibatch (the paper: latest rows)."""
        assert self.inferred is not None
        u = self.inferred(obs)  # [N, M, A]
        gain = self.joint.log_likelihood(u, action) + self.infer_entropy * self.joint.entropy(u)
        loss = -torch.where(self.joint.own, 0.0, gain).sum(-1).mean(-1).sum()
        return loss, {"loss/inferred": loss.detach()}

    def targets(self) -> list[tuple[Tensor, Tensor]]:
        """Pair the slow copies of critics, actors and inferred policies with these; see `OffPolicy.targets`."""
        inferred = [] if self.inferred is None else [(self.psi_target, self.infer_step.theta)]
        return [*super().targets(), (self.phi_target, self.actor_step.theta), *inferred]
