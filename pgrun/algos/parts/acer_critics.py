"""ACER's two critics: Q of each of a few actions, and a stochastic dueling network for continuous ones.

Wang et al. 2017, https://arxiv.org/abs/1611.01224. Shapes: a rollout [T, B], K actions, n draws, D coordinates.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.data.types import Transition
from pgrun.nn import ActorCritic, Network
from pgrun.nn.distributions import Categorical, Gaussian
from pgrun.nn.layers import ACTIVATIONS, LayerNorm, linear


class CriticEstimates(NamedTuple):
    """A critic's estimates for a rollout, under a policy π."""

    q: Tensor  # [T, B]        Q(s_t, a_t)
    v: Tensor  # [T, B]        V(s_t) = E_π[Q(s_t, ·)]
    actions: Tensor  # [m, T, B, *A]  the actions that the bias correction sums over
    share: Tensor  # [m, T, B]     their weights in an expectation under π
    q_of: Tensor  # [m, T, B]     Q(s_t, ·) of those actions


class Exhaustive(nn.Module):
    """A critic with one output per action, Q(s, a) of K actions; expectations under π are sums."""

    dimensions = 1  # d in min(1, ρ^{1/d}), the factor that cuts the traces
    corrected = True  # whether the policy's gradient uses Q^ret (else the uncorrected Q^opc)

    def __init__(self, features: int, space: gym.spaces.Discrete, network: Network, draws: int) -> None:
        super().__init__()
        self.head = linear(features, int(space.n), 1.0 if network.init_gain else 0.0)

    def noise(self, batch: Transition) -> Tensor:
        """Return an empty tensor: this critic draws no actions."""
        return batch.reward.new_zeros(0, *batch.reward.shape)

    def forward(self, features: Tensor, action: Tensor, pi: Categorical, noise: Tensor) -> CriticEstimates:
        """Estimate Q and V of a rollout; the bias correction sums over all K actions."""
        q = self.head(features)  # [T, B, K]
        p = pi.logits.softmax(-1)
        choices = torch.arange(q.shape[-1], device=q.device).reshape(-1, *[1] * action.dim()).expand(-1, *action.shape)
        taken = q.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        return CriticEstimates(taken, (p * q).sum(-1), choices, p.movedim(-1, 0), q.movedim(-1, 0))

    def value(self, features: Tensor, pi: Categorical) -> Tensor:
        """Return V(s) = Σ_a π(a|s) Q(s, a), [T, B]."""
        return (pi.logits.softmax(-1) * self.head(features)).sum(-1)

    def error(self, judged: CriticEstimates, target: Tensor, value_target: Tensor) -> Tensor:
        """Return ½ (Q^ret − Q(s_t, a_t))², [T, B]; algorithm 2."""
        return 0.5 * (target - judged.q).square()


class Dueling(nn.Module):
    """A stochastic dueling network: Q̃(s, a) = V(s) + A(s, a) − 1/n Σ_i A(s, u_i) with u_i ~ π, eq. 14.

    Q̃ is consistent with V: its mean under π is V.
    """

    corrected = False

    def __init__(self, features: int, space: gym.spaces.Box, network: Network, draws: int) -> None:
        super().__init__()
        self.draws, self.dimensions = draws, math.prod(space.shape)
        gain = network.init_gain
        width, self.activation = network.hidden[-1], ACTIVATIONS[network.activation]
        self.v = linear(features, 1, 1.0 if gain else 0.0)
        self.of_state, self.of_action = linear(features, width, gain), linear(self.dimensions, width, gain)
        self.a = linear(width, 1, 1.0 if gain else 0.0)
        self.norm = LayerNorm(width) if network.layer_norm else None

    def noise(self, batch: Transition) -> Tensor:
        """Draw standard normal noise for the actions from π, [n + 1, T, B, D].

        n are for the mean of A, one is for the bias correction.
        """
        return torch.randn(self.draws + 1, *batch.action.shape, device=batch.action.device)

    def advantage(self, features: Tensor, actions: Tensor) -> Tensor:
        """Compute A(s, a) of several actions [m, T, B, D] at each state, [m, T, B].

        One hidden layer sees state and action.
        """
        x = self.of_state(features) + self.of_action(actions)
        return self.a(self.activation(x if self.norm is None else self.norm(x))).squeeze(-1)

    def forward(self, features: Tensor, action: Tensor, pi: Gaussian, noise: Tensor) -> CriticEstimates:
        """Estimate Q̃ and V of a rollout; the bias correction uses one drawn action a′."""
        drawn = pi.drawn(noise).detach()  # u_1 … u_n and a′
        a = self.advantage(features, torch.cat([action.unsqueeze(0), drawn]))
        v = self.v(features).squeeze(-1)
        q = v + a - a[1:-1].mean(0)
        return CriticEstimates(q[0], v, drawn[-1:], torch.ones_like(q[-1:]), q[-1:])

    def value(self, features: Tensor, pi: Gaussian) -> Tensor:
        """Return V(s), [T, B]."""
        return self.v(features).squeeze(-1)

    def error(self, judged: CriticEstimates, target: Tensor, value_target: Tensor) -> Tensor:
        """Return the errors of Q̃ and V, [T, B]; algorithm 3.

        ½ (Q^ret − Q̃(s_t, a_t))², plus the same of V towards V + min(1, ρ_t) (Q^ret − Q̃).
        """
        return 0.5 * ((target - judged.q).square() + (value_target - judged.v).square())


class ActorQ(ActorCritic):
    """A policy π(a|s) and one of these critics, on one encoder if `network.shared`, else on two."""

    def __init__(self, network: Network, obs_space: gym.Space, action_space: gym.Space, draws: int, hold: int) -> None:
        super().__init__(network, obs_space, action_space, hold=hold)
        assert self.critic is not None
        kind = Exhaustive if isinstance(action_space, gym.spaces.Discrete) else Dueling
        self.encoder = self.critic.encoder
        self.q: Exhaustive | Dueling = kind(self.encoder.features, action_space, network, draws)  # type: ignore[arg-type]
        self.critic.head = nn.Identity()  # type: ignore[assignment]

    def judged(self, batch: Transition, noise: Tensor) -> tuple[Any, CriticEstimates]:
        """Return π(·|s_t) and the critic's estimates of a rollout."""
        pi = self.policy(batch)
        return pi, self.q(self.encoder.along(batch, self.slots[1]), batch.action, pi, noise)

    def value(self, batch: Transition) -> Tensor:
        """Return V(s_t), [T, B]; see `ActorCritic.value`."""
        pi: Any = self.policy(batch)  # of the kind that the critic takes, both by the action space
        return self.q.value(self.encoder.along(batch, self.slots[1]), pi)

    def next_value(self, batch: Transition) -> Tensor:
        """Return V(s_{t+1}), [T, B]; see `ActorCritic.next_value`."""
        pi = self.actor.head(self.actor.encoder.beyond(batch, self.slots[0]), batch.next_obs)
        return self.q.value(self.encoder.beyond(batch, self.slots[1]), pi)
