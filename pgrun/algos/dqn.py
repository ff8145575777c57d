"""Deep Q-networks."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
from torch import Tensor

from pgrun.algos.parts.off_policy import OffPolicy
from pgrun.core.exploration import Exploration
from pgrun.data.types import Carry, Obs, Transition
from pgrun.errors import UserError
from pgrun.nn.q import DiscreteQ


class DQN(OffPolicy):
    """Q-learning with a network, replay and a target network.

    Mnih et al. 2015, https://doi.org/10.1038/nature14236

    Args:
        exploration: how it takes an action, given Q.
        double: choose the next action by Q, value it by Q̄ (van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461).
        dueling: Q in two streams (Wang et al. 2016, https://arxiv.org/abs/1511.06581).
        huber: errors beyond ±1 count linearly, which clips their gradient, as Mnih et al. do; else all are squared.
        tau: the share of the way that Q̄ moves, at each update or every target_every updates; null: all of it, a copy.
        target_every: updates from one copy of Q to Q̄ to the next; null: Q̄ moves at each update.
    """

    action_spaces = (gym.spaces.Discrete,)
    policy_names = ("q.",)
    mixed_targets = True
    q: DiscreteQ
    q_target: DiscreteQ

    def __init__(self, *, exploration: Exploration, double: bool, dueling: bool, huber: bool, **common: Any) -> None:
        super().__init__(**common)
        if not isinstance(exploration, Exploration):
            name = type(exploration).__name__
            raise UserError(f"{name} explores no discrete actions; use algo/exploration=epsilon_greedy or boltzmann")
        self.exploration, self.chosen_by_q, self.huber = exploration, double, huber
        self.attach_critic(DiscreteQ(self.network, self.obs_space, self.action_space, dueling=dueling))

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Explore by Q, or take the best action; see `Algorithm.act`."""
        obs, carry, recorded = self.recall(obs, carry)
        q = self.q.all(obs)[0]
        return self.exploration(q) if explore else q.argmax(-1), carry, recorded

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Fit Q, and let Q̄ follow; see `Algorithm.update`."""
        metrics = self.fit(batch)
        self.update_targets()
        return metrics

    def target(self, batch: Transition) -> Tensor:
        """Compute r + γ max_a Q̄(s', a) unless the MDP ended, [M]; with double, Q chooses a."""
        q = self.q_target.all(batch.next_obs)[0]
        if self.chosen_by_q:
            best = self.q.all(batch.next_obs)[0].argmax(-1, keepdim=True)
            q = q.gather(-1, best).squeeze(-1)
        else:
            q = q.amax(-1)
        return batch.reward + self.gamma * batch.discount * q

    def error(self, delta: Tensor) -> Tensor:
        """Return the Huber loss of an error, or half its square; see `OffPolicy.error`."""
        return F.huber_loss(delta, torch.zeros_like(delta), reduction="none") if self.huber else super().error(delta)

    def restore(self, state: dict[str, Any], *, optimizers: bool = True) -> None:
        """Load a snapshot; in older ones the count of updates is the algorithm's own. See `Algorithm.restore`."""
        old = {"_extra_state": "target_update._extra_state"}
        module = {old.get(key, key): value for key, value in state["module"].items()}
        super().restore({**state, "module": module}, optimizers=optimizers)
