"""The models that algorithms learn: an actor, an actor with its critic, twin Q functions."""

from __future__ import annotations

import itertools
import math

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.data.types import Carry, Obs, Transition, fresh, map_obs
from pgrun.nn.distributions import Distribution, TanhGaussian
from pgrun.nn.encoders import MLP, Network
from pgrun.nn.heads import check_bounded, make_head
from pgrun.nn.layers import ACTIVATIONS, Flatten, LayerNorm, flat_size, linear
from pgrun.nn.precision import Product, hidden_product
from pgrun.nn.sde import Matrices, StateNoise
from pgrun.nn.values import ActionCritic, Critic, check_critic, make_critic

spaces = gym.spaces


class Actor(nn.Module):
    """A policy π(a|s): an encoder and a head."""

    def __init__(self, network: Network, obs_space: gym.Space, action_space: gym.Space) -> None:
        super().__init__()
        self.encoder = network.encoder(obs_space)
        self.head = make_head(self.encoder.features, action_space, network)

    def forward(self, obs: Obs, matrices: Tensor | None = None) -> Distribution:
        """Return π(·|s); `matrices` make its sample, see `StateNoise`."""
        return self.head(self.encoder(obs), obs, matrices)


class ActorCritic(nn.Module):
    """A policy π(a|s) and a critic, on one encoder if `network.shared`, else on two.

    The critic is V(s) (`kind` v), Q(s, a) (q), or V(s) with a centred advantage (a). Its means under π over continuous
    actions are sums over `nodes` of them.

    It learns from a Transition: rows [M] or rollouts [T, B] where the network has no memory; where it has one, rollouts
    (or sequences cut from them) with the state at each step in extras["carry"].

    With state-dependent exploration (see `StateNoise`) `hold` is the steps for which it uses a matrix where the network
    does not say; None: those of an episode.
    """

    def __init__(
        self,
        network: Network,
        obs_space: gym.Space,
        action_space: gym.Space,
        *,
        critic: bool = True,
        kind: str = "v",
        nodes: int = 0,
        hold: int | None = None,
    ) -> None:
        super().__init__()
        check_critic(kind, action_space)
        self.actor = Actor(network, obs_space, action_space)
        encoder = self.actor.encoder
        self.critic: Critic | None = None
        if critic:
            body = encoder if network.shared else network.encoder(obs_space)
            self.critic = make_critic(kind, body, network, action_space, nodes)
        self.shared = self.critic is not None and self.critic.encoder is encoder
        size = encoder.state_size
        self.slots = slice(0, size), slice(0, size) if self.shared else slice(size, 2 * size)  # actor's, critic's
        self.state_size = size * (2 if self.critic is not None and not self.shared else 1)
        self.sequence = network.sequence if size else None
        self.matrices = Matrices(self.actor.head.matrices, network.sde_sample_freq or hold)

    @property
    def recurrent(self) -> bool:
        """Whether the network has a memory."""
        return self.state_size > 0

    def initial_carry(self, num_envs: int) -> Carry:
        """Return what the model carries at an episode's start: its memory's state [B, S], the exploration's matrices.

        Either is there only if the network has it.
        """
        one = next(self.parameters())
        state = (one.new_zeros(num_envs, self.state_size),) if self.recurrent else ()
        return *state, *self.matrices.initial(num_envs, one.device)

    def step(self, obs: Obs, carry: Carry, explore: bool = False) -> tuple[Distribution, Carry]:
        """Return π(·|s) of observations [B, *O], and the next carry.

        If it is to explore, and explores by matrices, those in use make π's sample.
        """
        matrices, carry = self.matrices.take(carry, explore)
        if not self.recurrent:
            return self.actor(obs, matrices), carry
        state, *others = carry
        features, after = self.actor.encoder.step(obs, state[:, self.slots[0]])
        pi = self.actor.head(features, obs, matrices)
        if self.critic is not None and not self.shared:
            after = torch.cat([after, self.critic.encoder.step(obs, state[:, self.slots[1]])[1]], -1)
        return pi, (after, *others)

    def forward(self, batch: Transition) -> tuple[Distribution, Tensor]:
        """Return π(·|s_t) and the critic's estimates, [...] (see `value`)."""
        features = self.actor.encoder.along(batch, self.slots[0])
        pi = self.actor.head(features, batch.obs)
        if self.critic is None:
            return pi, torch.zeros_like(batch.reward)
        if not self.shared:
            features = self.critic.encoder.along(batch, self.slots[1])
        return pi, self._says(features, batch, pi)

    def policy(self, batch: Transition) -> Distribution:
        """Return π(·|s_t)."""
        return self.actor.head(self.actor.encoder.along(batch, self.slots[0]), batch.obs)

    def value(self, batch: Transition) -> Tensor:
        """Compute the estimate that is fitted to a target, V(s_t) or Q(s_t, a_t), [...]; 0 without a critic."""
        if self.critic is None:
            return torch.zeros_like(batch.reward)
        pi = self.policy(batch) if self.critic.of_actions else None
        return self._says(self.critic.encoder.along(batch, self.slots[1]), batch, pi)

    def _says(self, features: Tensor, batch: Transition, pi: Distribution | None) -> Tensor:
        assert self.critic is not None
        if not isinstance(self.critic, ActionCritic):
            return self.critic.value(features)
        assert pi is not None
        return self.critic.taken(features, batch.action, pi)

    @property
    def of_actions(self) -> bool:
        """Whether the critic estimates the values of actions."""
        return self.critic is not None and self.critic.of_actions

    def state_value(self, batch: Transition) -> Tensor:
        """Compute V(s_t), [...]; of a critic of actions the mean under π, 0 without a critic."""
        if not isinstance(self.critic, ActionCritic):
            return self.value(batch)
        pi = self.policy(batch)
        return self.critic.expected(self.critic.encoder.along(batch, self.slots[1]), pi)

    def next_value(self, batch: Transition) -> Tensor:
        """Compute V(s_{t+1}) at the true successors, [...]; 0 without a critic."""
        if self.critic is None:
            return torch.zeros_like(batch.reward)
        features = self.critic.encoder.beyond(batch, self.slots[1])
        if not isinstance(self.critic, ActionCritic):
            return self.critic.value(features)
        pi = self.actor.head(self.actor.encoder.beyond(batch, self.slots[0]), batch.next_obs)
        return self.critic.expected(features, pi)

    def observe(self, batch: Transition) -> None:
        """Update the encoders' running statistics with a rollout's observations [T, B, *O], those that are fresh."""
        valid = batch.valid if (new := fresh(batch)) is None else batch.valid & new
        obs, valid = map_obs(lambda x: x.flatten(0, 1), batch.obs), valid.flatten()
        self.actor.encoder.observe(obs, valid)
        if self.critic is not None and not self.shared:
            self.critic.encoder.observe(obs, valid)


class SquashedActor(nn.Module):
    """A policy π(a|s), tanh of a Gaussian whose mean and σ both depend on the state; for continuous actions.

    σ is an output of the network, or that of state-dependent exploration (`network.std=sde`), see `StateNoise`.
    """

    LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # as in the code of Haarnoja et al. 2018

    def __init__(self, network: Network, obs_space: gym.Space, action_space: gym.Space) -> None:
        super().__init__()
        check_bounded(action_space)
        self.encoder = network.encoder(obs_space)
        features, size = self.encoder.features, flat_size(action_space)
        self.noise = StateNoise(features, size, network) if network.std == "sde" else None
        self.layer = linear(features, size if self.noise else 2 * size, 0.0)
        self.matrices = Matrices([math.prod(self.noise.shape)] if self.noise else [], network.sde_sample_freq)

    def forward(self, obs: Obs, matrices: Tensor | None = None) -> TanhGaussian:
        """Return π(·|s); `matrices` make its sample, see `StateNoise`."""
        features = self.encoder(obs)
        if self.noise is not None:
            standard = None if matrices is None else self.noise.standard(features, matrices)
            return TanhGaussian(self.layer(features), self.noise(features), standard)
        mean, log_std = self.layer(features).chunk(2, -1)
        return TanhGaussian(mean, log_std.clamp(self.LOG_STD_MIN, self.LOG_STD_MAX))


class Twin(nn.Module):
    """Several Q functions of (s, a), k of them, as one batched product: [..., n] to [k, ...]."""

    def __init__(self, network: Network, obs_space: gym.Space, action_space: gym.Space, *, k: int = 2) -> None:
        super().__init__()
        assert isinstance(network, MLP)  # and its encoder is MLP's: see `q_functions`
        self.flatten = Flatten(obs_space, network.normalize_obs)
        self.activation = ACTIVATIONS[network.activation]
        sizes = [flat_size(obs_space) + flat_size(action_space), *network.hidden, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.norms = nn.ModuleList(LayerNorm(n, k) for n in network.hidden) if network.layer_norm else None
        for i, o in itertools.pairwise(sizes):
            layers = [linear(i, o, network.init_gain) for _ in range(k)]
            self.weights.append(torch.stack([layer.weight.detach().T for layer in layers]).contiguous())
            self.biases.append(torch.stack([layer.bias.detach().unsqueeze(0) for layer in layers]))
        self.k, self.rounds = k, network.rounds

    def forward(self, obs: Obs, action: Tensor) -> Tensor:
        """Compute every Q, [k, M], of obs [M, *O] and action [M, A]."""
        x = torch.cat([self.flatten.run(obs), action], -1).expand(self.k, -1, -1)
        *hidden, last = zip(self.weights, self.biases, strict=True)
        product: Product = torch.bmm
        for i, (weight, bias) in enumerate(hidden):
            x = product(x, weight).add_(bias)  # faster than baddbmm, by a fifth at 256 units
            x = self.activation(x if self.norms is None else self.norms[i](x))
            product = hidden_product(torch.bmm, self.rounds)
        weight, bias = last  # one output: a product and a sum are faster than a matrix with one column
        return (x * weight.transpose(1, 2)).sum(-1) + bias.squeeze(-1)
