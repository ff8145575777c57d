"""The encoder of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.data.types import Obs
from pgrun.errors import UserError
from pgrun.nn.encoder import Encoder
from pgrun.nn.layers import ACTIVATIONS, Layers, is_image


class CNNEncoder(Encoder):
    """Convolutions on images [..., C, H, W] or [..., H, W, C], then linear layers.

    Mnih et al. 2015, https://doi.org/10.1038/nature14236.

    Args:
        space: of the images, or of a dict with one image and perhaps an action mask.
        channels: of each convolution.
        hidden: units of each linear layer.
        activation: between layers.
        gain: of the orthogonal initialisation.
        channels_last: which of the two layouts they have; None: tell by their shape.
        rounds: whether products between linear layers are rounded; see `Layers`.
    """

    def __init__(
        self,
        space: gym.Space,
        channels: Sequence[int],
        hidden: Sequence[int],
        activation: str,
        gain: float,
        channels_last: bool | None = None,
        *,
        rounds: bool = False,
    ) -> None:
        super().__init__()
        self.key, space = image_of(space)
        shape = tuple(space.shape)
        self.channels_last = lies_last(shape) if channels_last is None else channels_last
        c, h, w = (shape[2], shape[0], shape[1]) if self.channels_last else shape
        self.scale = 1.0 / 255.0 if space.dtype == "uint8" else 1.0
        self.activation = ACTIVATIONS[activation]
        kernels = [(8, 4), (4, 2), (3, 1)] if min(h, w) >= 36 else [(3, 1)] * 3
        padding = 0 if min(h, w) >= 7 else 1  # without it, three convolutions leave nothing of fewer pixels
        convolutions = []
        size: tuple[int, ...] = (c, h, w)
        for out, (kernel, stride) in zip(channels, kernels, strict=False):
            layer = nn.Conv2d(size[0], out, kernel, stride, padding)
            nn.init.orthogonal_(layer.weight, gain or 1.0)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            convolutions.append(layer)
            size = (out, *((n + 2 * padding - kernel) // stride + 1 for n in size[1:]))
        self.convolutions = nn.ModuleList(convolutions)
        self.layers = Layers([math.prod(size), *hidden], activation, gain, rounds=rounds)
        self.features = self.layers.features

    def forward(self, obs: Obs) -> Tensor:
        """Encode images."""
        if self.key is not None:
            obs = obs[self.key]
        batch = obs.shape[:-3]
        x = obs.reshape(-1, *obs.shape[-3:]).to(torch.float32) * self.scale
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        for convolution in self.convolutions:
            x = self.activation(convolution(x))
        return self.layers.run(x.flatten(1)).reshape(*batch, -1)


def image_of(space: gym.Space) -> tuple[str | None, gym.spaces.Box]:
    """Return the image that a space holds, and its key in a dict of it and perhaps an action mask.

    Raises:
        UserError: there is no image, or something else beside it.
    """
    if isinstance(space, gym.spaces.Dict):
        observed = {key: part for key, part in space.items() if key != "action_mask"}
        if len(observed) == 1 and is_image(part := next(iter(observed.values()))):
            return next(iter(observed)), part  # type: ignore[return-value]
    elif is_image(space):
        return None, space  # type: ignore[return-value]
    raise UserError(f"network=cnn reads images, but the observations are {space}: use network=mlp")


def holds_image(space: gym.Space) -> bool:
    """Whether a space holds one image and nothing else."""
    try:
        return bool(image_of(space))
    except UserError:
        return False


def lies_last(shape: tuple[int, ...]) -> bool:
    """Whether an image's channels are its last axis, not its first.

    The channels are the axis that is not one of two equal sides, or else the one that is by far the smallest.

    Raises:
        UserError: the shape does not tell.
    """
    a, b, c = shape
    first, last = (b == c, a == b) if (b == c) != (a == b) else (2 * a <= min(b, c), 2 * c <= min(a, b))
    if first == last:
        raise UserError(
            f"images of {shape} may have their channels first or last: say which by network.channels_last=true or false"
        )
    return last


def check_layout(channels_last: Any) -> None:
    """Raise UserError where an image's layout is not given as true, false or null."""
    if channels_last is not None and not isinstance(channels_last, bool):
        raise UserError(f"network.channels_last={channels_last} should be true, false or null")
