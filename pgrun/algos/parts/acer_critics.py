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
from pgrun.nn.layers import ACTIVATIONS, linear


class CriticEstimates(NamedTuple):
    """What a critic says of a rollout, under a policy π."""

    q: Tensor  # [T, B]        Q(s_t, a_t)
    v: Tensor  # [T, B]        V(s_t) = E_π[Q(s_t, ·)]
    actions: Tensor  # [m, T, B, *A]  the actions that the bias correction is taken over
    share: Tensor  # [m, T, B]     what each of them weighs in an expectation under π
    q_of: Tensor  # [m, T, B]     their Q


class Exhaustive(nn.Module):
    """Q(s, a) of K actions as K outputs; expectations under π are sums."""

    dimensions = 1  # d of ρ^{1/d}, which the traces are cut by
    corrected = True  # whether the policy's gradient takes Q^ret (else the uncorrected Q^opc)

    def __init__(self, features: int, space: gym.spaces.Discrete, network: Network, draws: int) -> None:
        super().__init__()
        self.head = linear(features, int(space.n), 1.0 if network.init_gain else 0.0)

    def noise(self, batch: Transition) -> Tensor:
        """Nothing is drawn."""
        return batch.reward.new_zeros(0, *batch.reward.shape)

    def forward(self, features: Tensor, action: Tensor, pi: Any, noise: Tensor) -> CriticEstimates:
        q = self.head(features)  # [T, B, K]
        p = pi.logits.softmax(-1)
        every = torch.arange(q.shape[-1], device=q.device).reshape(-1, *[1] * action.dim()).expand(-1, *action.shape)
        taken = q.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        return CriticEstimates(taken, (p * q).sum(-1), every, p.movedim(-1, 0), q.movedim(-1, 0))

    def value(self, features: Tensor, pi: Any) -> Tensor:
        """V(s) = Σ_a π(a|s) Q(s, a), [T, B]."""
        return (pi.logits.softmax(-1) * self.head(features)).sum(-1)

    def error(self, judged: CriticEstimates, target: Tensor, value_target: Tensor) -> Tensor:
        """½ (Q^ret − Q(s_t, a_t))², [T, B]; algorithm 2."""
        return 0.5 * (target - judged.q).square()


class Dueling(nn.Module):
    """Q̃(s, a) = V(s) + A(s, a) − 1/n Σ_i A(s, u_i) with u_i ~ π, eq. 14: consistent with V in the mean."""

    corrected = False

    def __init__(self, features: int, space: gym.spaces.Box, network: Network, draws: int) -> None:
        super().__init__()
        self.draws, self.dimensions = draws, math.prod(space.shape)
        gain = network.init_gain
        width, self.activation = network.hidden[-1], ACTIVATIONS[network.activation]
        self.v = linear(features, 1, 1.0 if gain else 0.0)
        self.of_state, self.of_action = linear(features, width, gain), linear(self.dimensions, width, gain)
        self.a = linear(width, 1, 1.0 if gain else 0.0)

    def noise(self, batch: Transition) -> Tensor:
        """What the draws from π are made of: n for the mean of A, one for the bias correction; [n + 1, T, B, D]."""
        return torch.randn(self.draws + 1, *batch.action.shape, device=batch.action.device)

    def advantage(self, features: Tensor, actions: Tensor) -> Tensor:
        """A(s, a) of several actions [m, T, B, D] at each state, [m, T, B]: one hidden layer over both."""
        hidden = self.activation(self.of_state(features) + self.of_action(actions))
        return self.a(hidden).squeeze(-1)

    def forward(self, features: Tensor, action: Tensor, pi: Any, noise: Tensor) -> CriticEstimates:
        drawn = (pi.mean + pi.log_std.exp() * noise).detach()  # u_1 … u_n and a′
        a = self.advantage(features, torch.cat([action.unsqueeze(0), drawn]))
        v = self.v(features).squeeze(-1)
        q = v + a - a[1:-1].mean(0)
        return CriticEstimates(q[0], v, drawn[-1:], torch.ones_like(q[-1:]), q[-1:])

    def value(self, features: Tensor, pi: Any) -> Tensor:
        """V(s), [T, B]."""
        return self.v(features).squeeze(-1)

    def error(self, judged: CriticEstimates, target: Tensor, value_target: Tensor) -> Tensor:
        """½ (Q^ret − Q̃(s_t, a_t))² and V's towards V + min(1, ρ_t) (Q^ret − Q̃), [T, B]; algorithm 3."""
        return 0.5 * ((target - judged.q).square() + (value_target - judged.v).square())


class ActorQ(ActorCritic):
    """π(a|s) and one of these critics, on one encoder where `network.shared`, else on two."""

    def __init__(self, network: Network, obs_space: gym.Space, action_space: gym.Space, draws: int) -> None:
        super().__init__(network, obs_space, action_space)
        assert self.critic is not None
        kind = Exhaustive if isinstance(action_space, gym.spaces.Discrete) else Dueling
        self.encoder = self.critic.encoder
        self.q: Exhaustive | Dueling = kind(self.encoder.features, action_space, network, draws)  # type: ignore[arg-type]
        self.critic.head = nn.Identity()  # type: ignore[assignment]

    def judged(self, batch: Transition, noise: Tensor) -> tuple[Any, CriticEstimates]:
        """-> π(·|s_t), and what the critic says."""
        pi = self.policy(batch)
        return pi, self.q(self.encoder.along(batch, self.slots[1]), batch.action, pi, noise)

    def value(self, batch: Transition) -> Tensor:
        return self.q.value(self.encoder.along(batch, self.slots[1]), self.policy(batch))

    def next_value(self, batch: Transition) -> Tensor:
        pi = self.actor.head(self.actor.encoder.beyond(batch, self.slots[0]), batch.next_obs)
        return self.q.value(self.encoder.beyond(batch, self.slots[1]), pi)
