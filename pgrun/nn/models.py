"""The models that algorithms learn: an actor, an actor with its critic, twin Q functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.errors import UserError
from pgrun.nn.distributions import Bernoulli, Categorical, Gaussian, MultiCategorical, TanhGaussian
from pgrun.nn.encoders import ACTIVATIONS, MLP, Encoder, Flatten, Network, flat_size, is_image, linear
from pgrun.types import Carry, Obs, Transition, map_obs

spaces = gym.spaces


class Head(nn.Module):
    """Features to a distribution over an action space; illegal discrete actions are masked by obs["action_mask"]."""

    def __init__(self, features: int, space: gym.Space, network: Network) -> None:
        super().__init__()
        self.log_std: nn.Parameter | None = None
        self.make: Callable[[Tensor], Any]
        if isinstance(space, spaces.Discrete):
            size, self.make = int(space.n), Categorical
        elif isinstance(space, spaces.MultiDiscrete):
            sizes = tuple(int(n) for n in space.nvec.flatten())
            size, self.make = sum(sizes), lambda logits: MultiCategorical(logits, sizes)
        elif isinstance(space, spaces.MultiBinary):
            size, self.make = math.prod(space.shape), Bernoulli
        elif isinstance(space, spaces.Box):
            size, self.make = math.prod(space.shape), self._gaussian
            self.log_std = nn.Parameter(torch.full((size,), float(network.log_std_init)))
        else:
            raise UserError(f"no policy for the action space {space}: use Discrete, MultiDiscrete, MultiBinary or Box")
        self.layer = linear(features, size, network.head_gain)

    def _gaussian(self, mean: Tensor) -> Gaussian:
        assert self.log_std is not None
        return Gaussian(mean, self.log_std)

    def forward(self, features: Tensor, obs: Obs) -> Any:
        out = self.layer(features)
        if isinstance(obs, dict) and "action_mask" in obs:
            out = out.masked_fill(obs["action_mask"] == 0, -1e9)
        return self.make(out)


class Actor(nn.Module):
    """π(a|s): an encoder and a head."""

    def __init__(self, network: Network, obs_space: gym.Space, action_space: gym.Space) -> None:
        super().__init__()
        self.encoder = network.encoder(obs_space)
        self.head = Head(self.encoder.features, action_space, network)

    def forward(self, obs: Obs) -> Any:
        return self.head(self.encoder(obs), obs)


class Critic(nn.Module):
    """V(s): an encoder and one output."""

    def __init__(self, encoder: Encoder, network: Network) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = linear(encoder.features, 1, 1.0 if network.init_gain else 0.0)

    def forward(self, obs: Obs) -> Tensor:
        """-> V(s), [...]."""
        return self.value(self.encoder(obs))

    def value(self, features: Tensor) -> Tensor:
        """[..., F] -> [...]."""
        return self.head(features).squeeze(-1)


class ActorCritic(nn.Module):
    """π(a|s) and V(s), on one encoder where `network.shared`, else on two.

    To learn, it takes a Transition: rows [M] or rollouts [T, B] where the network has no memory; where it has one,
    rollouts (or sequences cut from them) with extras["carry"], what it remembered at each step.
    """

    def __init__(self, network: Network, obs_space: gym.Space, action_space: gym.Space, *, critic: bool = True) -> None:
        super().__init__()
        self.actor = Actor(network, obs_space, action_space)
        encoder = self.actor.encoder
        self.critic: Critic | None = None
        if critic:
            self.critic = Critic(encoder if network.shared else network.encoder(obs_space), network)
        self.shared = self.critic is not None and self.critic.encoder is encoder
        mine = encoder.state_size
        self.slots = slice(0, mine), slice(0, mine) if self.shared else slice(mine, 2 * mine)  # actor's, critic's
        self.state_size = mine * (2 if self.critic is not None and not self.shared else 1)
        self.sequence = network.sequence if mine else None

    @property
    def recurrent(self) -> bool:
        """Whether it remembers."""
        return self.state_size > 0

    def initial_carry(self, num_envs: int) -> Carry:
        """What it remembers at an episode's start, as one tensor [B, S]; () where it has no memory."""
        if not self.recurrent:
            return ()
        return (next(self.parameters()).new_zeros(num_envs, self.state_size),)

    def step(self, obs: Obs, carry: Carry) -> tuple[Any, Carry]:
        """One step of acting: obs [B, *O] -> π(·|s) and what is remembered next."""
        if not carry:
            return self.actor(obs), carry
        (state,) = carry
        features, after = self.actor.encoder.step(obs, state[:, self.slots[0]])
        pi = self.actor.head(features, obs)
        if self.critic is not None and not self.shared:
            after = torch.cat([after, self.critic.encoder.step(obs, state[:, self.slots[1]])[1]], -1)
        return pi, (after,)

    def forward(self, batch: Transition) -> tuple[Any, Tensor]:
        """-> π(·|s_t) and V(s_t), [...]; V is zero where there is no critic."""
        features = self.actor.encoder.along(batch, self.slots[0])
        pi = self.actor.head(features, batch.obs)
        if self.critic is None:
            return pi, torch.zeros_like(batch.reward)
        if not self.shared:
            features = self.critic.encoder.along(batch, self.slots[1])
        return pi, self.critic.value(features)

    def policy(self, batch: Transition) -> Any:
        """-> π(·|s_t)."""
        return self.actor.head(self.actor.encoder.along(batch, self.slots[0]), batch.obs)

    def value(self, batch: Transition) -> Tensor:
        """-> V(s_t), [...]; zero where there is no critic."""
        if self.critic is None:
            return torch.zeros_like(batch.reward)
        return self.critic.value(self.critic.encoder.along(batch, self.slots[1]))

    def next_value(self, batch: Transition) -> Tensor:
        """-> V(s_{t+1}) at the true successors, [...]; zero where there is no critic."""
        if self.critic is None:
            return torch.zeros_like(batch.reward)
        return self.critic.value(self.critic.encoder.beyond(batch, self.slots[1]))

    def observe(self, batch: Transition) -> None:
        """Take a rollout's observations [T, B, *O] into the encoders' running statistics."""
        obs, valid = map_obs(lambda x: x.flatten(0, 1), batch.obs), batch.valid.flatten()
        self.actor.encoder.observe(obs, valid)
        if self.critic is not None and not self.shared:
            self.critic.encoder.observe(obs, valid)


class SquashedActor(nn.Module):
    """π(a|s) = tanh of a Gaussian whose mean and σ both depend on the state; for continuous actions."""

    LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # as in the code of Haarnoja et al. 2018

    def __init__(self, network: Network, obs_space: gym.Space, action_space: spaces.Box) -> None:
        super().__init__()
        self.encoder = network.encoder(obs_space)
        self.layer = linear(self.encoder.features, 2 * math.prod(action_space.shape), 0.0)

    def forward(self, obs: Obs) -> TanhGaussian:
        mean, log_std = self.layer(self.encoder(obs)).chunk(2, -1)
        return TanhGaussian(mean, log_std.clamp(self.LOG_STD_MIN, self.LOG_STD_MAX))


class Twin(nn.Module):
    """k Q functions of (s, a) as one batched product: [..., n] -> [k, ...]."""

    def __init__(self, network: Network, obs_space: gym.Space, action_space: spaces.Box, *, k: int = 2) -> None:
        super().__init__()
        if is_image(obs_space) or not isinstance(network, MLP):
            raise UserError("Q functions of (state, action) read vectors: use network=mlp and an env without images")
        self.flatten = Flatten(obs_space, network.normalize_obs)
        self.activation = ACTIVATIONS[network.activation]
        sizes = [flat_size(obs_space) + math.prod(action_space.shape), *network.hidden, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for i, o in itertools.pairwise(sizes):
            layers = [linear(i, o, network.init_gain) for _ in range(k)]
            self.weights.append(torch.stack([layer.weight.detach().T for layer in layers]).contiguous())
            self.biases.append(torch.stack([layer.bias.detach().unsqueeze(0) for layer in layers]))
        self.k = k

    def forward(self, obs: Obs, action: Tensor) -> Tensor:
        """obs [M, *O], action [M, A] -> [k, M]."""
        x = torch.cat([self.flatten.run(obs), action], -1).expand(self.k, -1, -1)
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            x = self.activation(torch.baddbmm(bias, x, weight))
        weight, bias = last  # one output: a product and a sum are faster than a matrix with one column
        return (x * weight.transpose(1, 2)).sum(-1) + bias.squeeze(-1)
