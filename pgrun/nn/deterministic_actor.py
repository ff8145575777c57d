"""Deterministic policies, and the critic of a distribution."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from pgrun.data.types import Obs
from pgrun.nn.critics import Reader, reads_vectors
from pgrun.nn.encoders import MLP, Network
from pgrun.nn.layers import Flatten, Layers, flat_size, linear


class DeterministicActor(nn.Module):
    """A deterministic policy μ(s); tanh keeps bounded action coordinates in [−1, 1], the others are linear."""

    edge: Tensor

    def __init__(self, network: Network, obs_space: gym.Space, action_space: gym.Space) -> None:
        super().__init__()
        assert isinstance(action_space, gym.spaces.Box)
        self.encoder = network.encoder(obs_space)
        self.layer = linear(self.encoder.features, flat_size(action_space), network.head_gain)
        edge = np.asarray(action_space.high, dtype=np.float32)  # 1, or infinite
        self.register_buffer("edge", torch.from_numpy(edge.copy()), persistent=False)
        self.squashed, self.free = bool(np.isfinite(edge).all()), bool(np.isinf(edge).all())

    def forward(self, obs: Obs) -> Tensor:
        """Compute μ(s), [..., A], of observations [..., *O]."""
        u = self.layer(self.encoder(obs))
        if self.squashed:
            return u.tanh()
        return u if self.free else torch.where(self.edge.isinf(), u, u.tanh())


def jacobian_product(actor: nn.Module, obs: Obs, w: Tensor) -> tuple[Tensor, Tensor]:
    """Compute μ(s) and ∇_θμ(s)ᵀw of each state, both [M, A], by forward differentiation; w [P] is flat like θ."""
    theta = {name: p.detach() for name, p in actor.named_parameters()}
    sizes = [p.numel() for p in theta.values()]
    parts = w.split(sizes)
    direction = {name: part.view(p.shape) for (name, p), part in zip(theta.items(), parts, strict=True)}
    out = torch.func.jvp(
        lambda parameters: torch.func.functional_call(actor, parameters, (obs,)), (theta,), (direction,)
    )
    return out[0], out[1]


class AtomCritic(nn.Module):
    """A distributional critic Z(s, a): logits [M, K] of K atoms, of [M, *O], [M, A]."""

    def __init__(self, network: Network, obs_space: gym.Space, action_space: gym.Space, atoms: int) -> None:
        super().__init__()
        assert reads_vectors(network, obs_space)
        assert isinstance(network, MLP)
        self.flatten = Flatten(obs_space, network.normalize_obs)
        sizes = [flat_size(obs_space) + flat_size(action_space), *network.hidden]
        self.layers = Layers(
            sizes, network.activation, network.init_gain, rounds=network.rounds, norm=network.layer_norm
        )
        self.head = linear(self.layers.features, atoms, network.init_gain)

    def forward(self, obs: Obs, action: Tensor) -> Tensor:
        """Compute the logits, [M, K]."""
        return self.head(self.layers.run(torch.cat([self.flatten.run(obs), action], -1)))


def atom_critic(network: Network, obs_space: gym.Space, action_space: gym.Space, atoms: int) -> nn.Module:
    """Make Z(s, a) on the layers of network=mlp, or on the network's own encoder."""
    if reads_vectors(network, obs_space):
        return AtomCritic(network, obs_space, action_space, atoms)
    return Reader(network, obs_space, flat_size(action_space), atoms, network.init_gain)
