"""The critics that learn beside a policy: V(s), Q(s, a), or V(s) with an advantage that is centred under π."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.data.types import Obs
from pgrun.errors import UserError
from pgrun.nn.distributions import Categorical
from pgrun.nn.encoder import Encoder
from pgrun.nn.encoders import Network
from pgrun.nn.layers import ACTIVATIONS, LayerNorm, linear
from pgrun.nn.quadrature import normal_nodes

spaces = gym.spaces


class Critic(nn.Module):
    """A value function V(s): an encoder and one output."""

    of_actions = False  # whether it estimates the values of actions

    def __init__(self, encoder: Encoder, network: Network, outputs: int = 1) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = linear(encoder.features, outputs, 1.0 if network.init_gain else 0.0)

    def forward(self, obs: Obs) -> Tensor:
        """Compute V(s), [...]."""
        return self.value(self.encoder(obs))

    def value(self, features: Tensor) -> Tensor:
        """Compute V, [...], from features [..., F]."""
        return self.head(features).squeeze(-1)


class ActionCritic(Critic):
    """A critic Q(s, a) of actions; V(s) is its mean under π."""

    of_actions = True

    def taken(self, features: Tensor, action: Tensor, pi: Any) -> Tensor:
        """Compute Q(s, a), [...], of features [..., F] and actions [..., *A]."""
        raise NotImplementedError

    def expected(self, features: Tensor, pi: Any) -> Tensor:
        """Compute V(s) = E_π[Q(s, ·)], [...]."""
        raise NotImplementedError


class DiscreteCritic(ActionCritic):
    """A critic Q(s, a) of discrete actions, one output per action."""

    def __init__(self, encoder: Encoder, network: Network, actions: int) -> None:
        super().__init__(encoder, network, actions)

    def forward(self, obs: Obs) -> Tensor:
        """Compute Q(s, ·), [..., K]."""
        return self.head(self.encoder(obs))

    def q(self, features: Tensor, pi: Categorical) -> Tensor:
        """Compute Q(s, ·), [..., K], from features [..., F]."""
        return self.head(features)

    def taken(self, features: Tensor, action: Tensor, pi: Categorical) -> Tensor:
        """Compute Q(s, a); see `ActionCritic.taken`."""
        return self.q(features, pi).gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def expected(self, features: Tensor, pi: Categorical) -> Tensor:
        """Compute V(s) = Σ_a π(a|s) Q(s, a), [...]."""
        return (pi.logits.softmax(-1) * self.q(features, pi)).sum(-1)


class DiscreteAdvantage(DiscreteCritic):
    """A critic with V(s) and an advantage centred under π: Q(s, a) = V(s) + F(s, a) − Σ_a' π(a'|s) F(s, a').

    It has 1 + K outputs: the dueling form of Wang et al. 2016, https://arxiv.org/abs/1511.06581, eq. 9, with the mean
    under π.
    """

    def __init__(self, encoder: Encoder, network: Network, actions: int) -> None:
        super().__init__(encoder, network, actions + 1)

    def q(self, features: Tensor, pi: Categorical) -> Tensor:
        """Compute Q(s, ·), [..., K]; see `DiscreteCritic.q`."""
        out = self.head(features)
        v, f = out[..., :1], out[..., 1:]
        return v + f - (pi.logits.softmax(-1).detach() * f).sum(-1, keepdim=True)


class ContinuousCritic(ActionCritic):
    """A critic Q(s, a) of continuous actions: a hidden layer over features and action, and one output.

    Means under a Gaussian π are sums over fixed nodes ε_i with weights w_i: E_π[Q(s, ·)] = Σ_i w_i Q(s, μ + σ ε_i), or
    tanh of that where π squashes. No random number is drawn.

    Args:
        encoder: of the observations.
        network: whose activation, initialisation and normalisation the layer has.
        dimensions: of the actions, n.
        nodes: how many there are, see `normal_nodes`.
    """

    def __init__(self, encoder: Encoder, network: Network, dimensions: int, nodes: int) -> None:
        super().__init__(encoder, network)
        width, gain = encoder.features, network.init_gain
        self.of_state, self.of_action = linear(width, width, gain), linear(dimensions, width, gain)
        self.activation = ACTIVATIONS[network.activation]
        self.norm = LayerNorm(width) if network.layer_norm else None
        noise, weight = (x.to(torch.get_default_dtype()) for x in normal_nodes(dimensions, nodes))
        self.register_buffer("noise", noise, persistent=False)  # ε [m, n]
        self.register_buffer("weight", weight, persistent=False)  # w [m]

    noise: Tensor
    weight: Tensor

    def score(self, features: Tensor, action: Tensor) -> Tensor:
        """Compute the function of state and action, [..., 1]; features and actions broadcast."""
        return self.head(self.hidden(features, action))

    def hidden(self, features: Tensor, action: Tensor) -> Tensor:
        """Compute the hidden layer, [..., F]."""
        x = self.of_state(features) + self.of_action(action)
        return self.activation(x if self.norm is None else self.norm(x))

    def mean(self, features: Tensor, pi: Any) -> Tensor:
        """Compute the mean of `score` under π, [...]; no gradient goes through π."""
        at_nodes = self.score(features, actions_at(pi, self.noise).detach()).squeeze(-1)  # [m, ...]
        return torch.tensordot(self.weight, at_nodes, 1)

    def taken(self, features: Tensor, action: Tensor, pi: Any) -> Tensor:
        """Compute Q(s, a); see `ActionCritic.taken`."""
        return self.score(features, action).squeeze(-1)

    def expected(self, features: Tensor, pi: Any) -> Tensor:
        """Compute V(s); see `ActionCritic.expected`."""
        return self.mean(features, pi)


class ContinuousAdvantage(ContinuousCritic):
    """A critic of continuous actions with V(s) and a centred advantage: Q(s, a) = V(s) + F(s, a) − E_π[F(s, ·)].

    E_π is the sum over the nodes, under which the advantage's mean is exactly zero.
    """

    def __init__(self, encoder: Encoder, network: Network, dimensions: int, nodes: int) -> None:
        super().__init__(encoder, network, dimensions, nodes)
        self.f = linear(encoder.features, 1, 1.0 if network.init_gain else 0.0)

    def score(self, features: Tensor, action: Tensor) -> Tensor:
        """Compute F(s, a); see `ContinuousCritic.score`."""
        return self.f(self.hidden(features, action))

    def taken(self, features: Tensor, action: Tensor, pi: Any) -> Tensor:
        """Compute Q(s, a); see `ActionCritic.taken`."""
        return self.value(features) + super().taken(features, action, pi) - self.mean(features, pi)

    def expected(self, features: Tensor, pi: Any) -> Tensor:
        """Compute V(s); see `ActionCritic.expected`."""
        return self.value(features)


def actions_at(pi: Any, noise: Tensor) -> Tensor:
    """Compute the actions [m, ..., n] that a Gaussian, or tanh of one, makes of m standard normal vectors [m, n]."""
    return pi.drawn(noise.view(len(noise), *[1] * (pi.mean.dim() - 1), -1))


def check_critic(kind: str, action_space: gym.Space) -> None:
    """Raise UserError where a kind of critic has no means over such actions."""
    if kind != "v" and not isinstance(action_space, (spaces.Discrete, spaces.Box)):
        raise UserError(
            "algo/advantage=q and a, and a mixture with them, take means over all actions, E_π[Q(s, ·)], which needs "
            f"Discrete or Box actions, not {action_space}; use algo/advantage=td, nstep or gae"
        )


def make_critic(kind: str, encoder: Encoder, network: Network, action_space: gym.Space, nodes: int) -> Critic:
    """Make a critic: V(s) (`kind` v), Q(s, a) (q), or V(s) with a centred advantage (a)."""
    if kind == "v":
        return Critic(encoder, network)
    if isinstance(action_space, spaces.Discrete):
        return (DiscreteCritic if kind == "q" else DiscreteAdvantage)(encoder, network, int(action_space.n))
    assert isinstance(action_space, spaces.Box)
    continuous = ContinuousCritic if kind == "q" else ContinuousAdvantage
    return continuous(encoder, network, math.prod(action_space.shape), nodes)
