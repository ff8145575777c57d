"""Q functions of (state, action) on the encoder of any network."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from pgrun.data.types import Obs
from pgrun.errors import UserError
from pgrun.nn.encoders import CNN, MLP, Network, Recurrent
from pgrun.nn.images import shows_images
from pgrun.nn.layers import Layers, flat_size, is_image, linear
from pgrun.nn.models import Twin
from pgrun.nn.precision import Product, hidden_product


def q_functions(network: Network, obs_space: gym.Space, action_space: gym.Space, *, k: int = 2) -> nn.Module:
    """Make k Q functions; they are one batched product where the network's encoder is that of network=mlp."""
    if reads_vectors(network, obs_space):
        return Twin(network, obs_space, action_space, k=k)
    if isinstance(network, Recurrent):
        return RecurrentQs(network, obs_space, action_space, k)
    return EncodedQs(EncodedQ(network, obs_space, flat_size(action_space)) for _ in range(k))


def reads_vectors(network: Network, obs_space: gym.Space) -> bool:
    """Whether a network's layers are those of network=mlp, and may be joined with others; False for any other encoder.

    Raises:
        UserError: it is one of pgrun's networks for images, which have no Q functions of (state, action).
    """
    make = type(network).encoder
    seen = (make is MLP.encoder and is_image(obs_space)) or (make is Recurrent.encoder and shows_images(obs_space))
    if make is CNN.encoder or seen:
        raise UserError("Q functions of (state, action) read vectors: use network=mlp and an env without images")
    return make is MLP.encoder


class Reader(nn.Module):
    """An encoder of observations, then layers over its features and a vector: [..., *O], [..., n] to [..., outputs]."""

    def __init__(self, network: Network, obs_space: gym.Space, n: int, outputs: int, gain: float) -> None:
        super().__init__()
        self.encoder = network.encoder(obs_space)
        sizes = [self.encoder.features + n, *network.hidden]
        self.layers = Layers(
            sizes, network.activation, network.init_gain, rounds=network.rounds, norm=network.layer_norm
        )
        self.head = linear(self.layers.features, outputs, gain)

    def forward(self, obs: Obs, x: Tensor) -> Tensor:
        """Encode the observations and run the layers."""
        return self.beside(self.encoder(obs), x)

    def beside(self, features: Tensor, x: Tensor) -> Tensor:
        """Run the layers after the encoder on its features and an action."""
        return self.head(self.layers.run(torch.cat([features, x], -1)))


class EncodedQ(Reader):
    """Q(s, a) on an encoder: [M, *O], [M, A] to [M]."""

    def __init__(self, network: Network, obs_space: gym.Space, n: int) -> None:
        super().__init__(network, obs_space, n, 1, network.init_gain)

    def forward(self, obs: Obs, x: Tensor) -> Tensor:
        """Compute Q(s, a), [M]."""
        return super().forward(obs, x).squeeze(-1)


class EncodedQs(nn.ModuleList):
    """Several Q functions, computed one after the other: [M, *O], [M, A] to [k, M]."""

    def forward(self, obs: Obs, action: Tensor) -> Tensor:
        """Compute every Q(s, a), [k, M]."""
        return torch.stack([q(obs, action) for q in self])


class RecurrentQs(nn.Module):
    """Several Q functions on one encoder with a memory, as Ni et al. 2022 have them (https://arxiv.org/abs/2110.05038).

    Only the layers after the encoder are each function's own: running several memories would take several times as
    long.
    """

    def __init__(self, network: Recurrent, obs_space: gym.Space, action_space: gym.Space, k: int) -> None:
        super().__init__()
        self.encoder = network.encoder(obs_space)
        features = gym.spaces.Box(-np.inf, np.inf, (self.encoder.features,), np.float32)
        self.functions = Twin(network, features, action_space, k=k)

    def forward(self, obs: Obs, action: Tensor) -> Tensor:
        """Compute every Q(s, a), [k, N], of a `History` of N rows."""
        return self.functions(self.encoder(obs), action)


def first(q: nn.Module, obs: Obs, action: Tensor) -> Tensor:
    """Compute Q_1(s, a), the first of several Qs, [M]."""
    if isinstance(q, RecurrentQs):
        return first(q.functions, q.encoder(obs), action)
    if not isinstance(q, Twin):
        return q[0](obs, action)  # type: ignore[index]
    x = torch.cat([q.flatten.run(obs), action], -1)
    layers = list(zip(q.weights, q.biases, strict=True))
    product: Product = torch.addmm
    for i, (weight, bias) in enumerate(layers[:-1]):
        x = product(bias[0], x, weight[0])
        norm = None if q.norms is None else q.norms[i]
        x = q.activation(x if norm is None else norm.first(x))  # type: ignore[operator]
        product = hidden_product(torch.addmm, q.rounds)
    weight, bias = layers[-1]
    return (x * weight[0].T).sum(-1) + bias[0, 0]
