"""Parts that algorithms share which act by drawing from a policy π(a|s)."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from pgrun.algos.parts.base import Learner
from pgrun.algos.parts.off_policy import OffPolicy
from pgrun.data.types import Carry, Obs, Transition
from pgrun.nn import ActorCritic
from pgrun.nn.distributions import Distribution
from pgrun.nn.models import SquashedActor


class StochasticPolicy(Learner):
    """An algorithm that acts by its `model`: a policy π(a|s), perhaps with a critic. A subclass makes the model."""

    model: ActorCritic

    @property
    def lasting(self) -> Collection[int]:
        """The place of the exploration's matrices in the carry; see `Algorithm.lasting`."""
        return (int(self.model.recurrent),) if self.model.matrices.outlast else ()

    def initial_carry(self, num_envs: int) -> Carry:
        """Return the network's state at an episode's start; see `Algorithm.initial_carry`."""
        return self.model.initial_carry(num_envs)

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Sample from π, or take its mode; see `Algorithm.act`."""
        pi, after = self.model.step(obs, carry, explore)
        action = pi.sample() if explore else pi.mode()
        recorded = {"carry": carry[0]} if self.model.recurrent else {}
        return action, after, {**recorded, **self.record(pi, action)}

    def record(self, pi: Distribution, action: Tensor) -> dict[str, Tensor]:
        """Return what to record beside the actions that were taken, each [B, ...]."""
        return {}

    def log_prob(self, batch: Transition) -> Tensor:
        """Compute log π(a_t|s_t), [T, B]; see `Algorithm.log_prob`."""
        return self.model.policy(batch).log_prob(batch.action)


class SquashedPolicy(OffPolicy):
    """An algorithm with a replay that acts by its `actor`, a Gaussian squashed by tanh. A subclass makes the actor."""

    actor: SquashedActor

    @property
    def lasting(self) -> Collection[int]:
        """The place of the exploration's matrices in the carry; see `Algorithm.lasting`."""
        return (int(self.recurrent),) if self.actor.matrices.outlast else ()

    def initial_carry(self, num_envs: int) -> Carry:
        """Return the networks' memory and the exploration's; see `Algorithm.initial_carry`."""
        return *super().initial_carry(num_envs), *self.actor.matrices.initial(num_envs, self.device)

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Sample from π, or take its mode; see `Algorithm.act`."""
        obs, carry, recorded = self.recall(obs, carry)
        matrices, carry = self.actor.matrices.take(carry, explore)
        pi = self.actor(obs, matrices)
        return (pi.sample() if explore else pi.mode()), carry, recorded
