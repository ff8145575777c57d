"""Encoders of images, and of images and vectors together."""

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
from pgrun.nn.layers import ACTIVATIONS, Flatten, Layers, flat_size, is_image


class Convolutions(Encoder):
    """Convolutions on images [..., C, H, W] or [..., H, W, C], or on stacks of such images [..., K, *image].

    Mnih et al. 2015, https://doi.org/10.1038/nature14236. The images of a stack are one image with all their channels.

    Args:
        space: of the images.
        channels: of each convolution.
        activation: between layers.
        gain: of the orthogonal initialisation.
        channels_last: which of the two layouts they have; None: tell by their shape.
    """

    def __init__(
        self,
        space: gym.spaces.Box,
        channels: Sequence[int],
        activation: str,
        gain: float,
        channels_last: bool | None = None,
    ) -> None:
        super().__init__()
        *stacked, a, b, c = space.shape
        self.axes = len(space.shape)
        self.channels_last = lies_last((a, b, c)) if channels_last is None else channels_last
        c, h, w = (c, a, b) if self.channels_last else (a, b, c)
        self.scale = 1.0 / 255.0 if space.dtype == "uint8" else 1.0
        self.activation = ACTIVATIONS[activation]
        kernels = [(8, 4), (4, 2), (3, 1)] if min(h, w) >= 36 else [(3, 1)] * 3
        padding = 0 if min(h, w) >= 7 else 1  # without it, three convolutions leave nothing of fewer pixels
        convolutions = []
        size: tuple[int, ...] = (math.prod(stacked) * c, h, w)
        for out, (kernel, stride) in zip(channels, kernels, strict=False):
            layer = nn.Conv2d(size[0], out, kernel, stride, padding)
            nn.init.orthogonal_(layer.weight, gain or 1.0)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            convolutions.append(layer)
            size = (out, *((n + 2 * padding - kernel) // stride + 1 for n in size[1:]))
        self.convolutions = nn.ModuleList(convolutions)
        self.features = math.prod(size)

    def convolve(self, obs: Tensor) -> Tensor:
        """Convolve images [..., *image] to [N, F], of N images."""
        x = obs.reshape(-1, *obs.shape[-self.axes :]).to(torch.float32) * self.scale
        if self.channels_last:
            x = x.movedim(-1, -3)
        if self.axes == 4:
            x = x.flatten(1, 2)  # [N, K, C, H, W]: the first image's channels, then the next one's
        for convolution in self.convolutions:
            x = self.activation(convolution(x))
        return x.flatten(1)

    def forward(self, obs: Obs) -> Tensor:
        """Encode images."""
        return self.convolve(obs).reshape(*obs.shape[: -self.axes], -1)


class CNNEncoder(Convolutions):
    """Convolutions on images, then linear layers.

    Args:
        space: of the images, or of a dict with one image and perhaps an action mask.
        channels: of each convolution.
        hidden: units of each linear layer.
        activation: between layers.
        gain: of the orthogonal initialisation.
        channels_last: which of the two layouts they have; None: tell by their shape.
        rounds: whether products between linear layers are rounded; see `Layers`.
        norm: whether linear layers are normalised; see `Layers`.
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
        norm: bool = False,
    ) -> None:
        ((key, image),) = images_of(space).items()
        super().__init__(image, channels, activation, gain, channels_last)
        self.key = key
        self.layers = Layers([self.features, *hidden], activation, gain, rounds=rounds, norm=norm)
        self.features = self.layers.features

    def forward(self, obs: Obs) -> Tensor:
        """Encode images."""
        if self.key:
            obs = obs[self.key]
        return self.layers.run(self.convolve(obs)).reshape(*obs.shape[: -self.axes], -1)


class MixedEncoder(Encoder):
    """Convolutions on each image of a dict, then linear layers over what they make and the dict's vectors.

    Args:
        space: a dict of images, vectors and choices.
        channels: of each convolution.
        hidden: units of each linear layer.
        activation: between layers.
        gain: of the orthogonal initialisation.
        channels_last: which of the two layouts the images have; None: tell by the shape of each.
        normalize: whether vectors are normalised by running statistics.
        rounds: whether products between linear layers are rounded; see `Layers`.
        norm: whether linear layers are normalised; see `Layers`.
    """

    def __init__(
        self,
        space: gym.spaces.Dict,
        channels: Sequence[int],
        hidden: Sequence[int],
        activation: str,
        gain: float,
        channels_last: bool | None = None,
        *,
        normalize: bool = False,
        rounds: bool = False,
        norm: bool = False,
    ) -> None:
        super().__init__()
        images = images_of(space)
        self.keys = list(images)
        encoders = [Convolutions(image, channels, activation, gain, channels_last) for image in images.values()]
        self.images = nn.ModuleList(encoders)
        size = sum(encoder.features for encoder in encoders)
        vectors = gym.spaces.Dict({key: part for key, part in observed(space).items() if key not in images})
        self.flatten = Flatten(vectors, normalize) if vectors.spaces else None
        size += flat_size(vectors)
        self.layers = Layers([size, *hidden], activation, gain, rounds=rounds, norm=norm)
        self.features = self.layers.features

    def forward(self, obs: Obs) -> Tensor:
        """Encode dicts of images and vectors."""
        parts = [image(obs[key]) for key, image in zip(self.keys, self.images, strict=True)]
        if self.flatten is not None:
            parts.append(self.flatten.run(obs))
        return self.layers.run(torch.cat(parts, -1))

    def observe(self, obs: Obs, valid: Tensor) -> None:
        """Update the running statistics; see `Encoder.observe`."""
        if self.flatten is not None and self.flatten.norm is not None:
            self.flatten.norm.observe(self.flatten.flat(obs), valid)


def observed(space: gym.Space) -> dict[str, gym.Space]:
    """List the parts of a dict that are seen: all but an action mask. Any other space is the one part, called ""."""
    if not isinstance(space, gym.spaces.Dict):
        return {"": space}
    return {key: part for key, part in space.items() if key != "action_mask"}


def images_of(space: gym.Space) -> dict[str, gym.spaces.Box]:
    """List the images that a space holds by their keys in a dict; an image by itself has the key ""."""
    parts = observed(space).items()
    return {key: part for key, part in parts if isinstance(part, gym.spaces.Box) and len(part.shape) in (3, 4)}


def shows_images(space: gym.Space) -> bool:
    """Return whether there are images among what a space holds."""
    return any(map(is_image, observed(space).values()))


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
