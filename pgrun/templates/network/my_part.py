"""The network `my_part`: residual blocks on vectors, to start from."""

from dataclasses import dataclass

import gymnasium as gym
from torch import Tensor, nn

from pgrun.nn import Network
from pgrun.nn.encoder import Encoder
from pgrun.nn.layers import Flatten, flat_size


class MyPartEncoder(Encoder):
    """A layer, then blocks x + f(x): observations to features [..., width]."""

    def __init__(self, space: gym.Space, width: int, blocks: int) -> None:
        super().__init__()
        self.features = width  # what heads are told
        self.flatten = Flatten(space, normalize=False)
        self.first = nn.Linear(flat_size(space), width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )

    def forward(self, obs: Tensor) -> Tensor:
        """Encode observations [..., *O]."""
        x: Tensor = self.first(self.flatten.run(obs))
        for block in self.blocks:
            x = x + block(x)
        return x


@dataclass(kw_only=True)
class MyPart(Network):
    """Makes encoders for algorithms, as many as they ask for; settings stand in conf/network/my_part.yaml.

    Args:
        blocks: how many.
    """

    blocks: int

    def encoder(self, space: gym.Space) -> Encoder:
        """Make an encoder of this observation space."""
        return MyPartEncoder(space, self.hidden[0], self.blocks)
