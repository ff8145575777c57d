"""A network of a user's own, with another encoder."""

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.nn import MLP
from pgrun.nn.encoder import Encoder
from pgrun.nn.layers import Flatten, flat_size, linear


class Sines(Encoder):
    """Sines of the observation."""

    def __init__(self, space: gym.Space) -> None:
        super().__init__()
        self.flatten, self.features = Flatten(space, False), 6
        self.layer = linear(flat_size(space), 6, 1.0)

    def forward(self, obs: Tensor) -> Tensor:
        return torch.sin(self.layer(self.flatten.run(obs)))


@dataclass(kw_only=True)
class Own(MLP):
    """network=mlp with another encoder."""

    def encoder(self, space: gym.Space) -> Sines:
        return Sines(space)


@dataclass(kw_only=True)
class Same(MLP):
    """network=mlp under another name."""
