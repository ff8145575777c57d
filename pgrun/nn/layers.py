"""Layers that networks are built from, and vectors from observations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgrun.data.types import Obs
from pgrun.errors import UserError
from pgrun.nn.normalize import RunningNorm
from pgrun.nn.precision import Product, hidden_product

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh_,
    "relu": torch.relu_,
    "elu": F.elu,
    "silu": F.silu,
}


def linear(fan_in: int, fan_out: int, gain: float) -> nn.Linear:
    """Make a linear layer with orthogonal weights of this gain and zero bias; gain 0 keeps torch's initialisation."""
    layer = nn.Linear(fan_in, fan_out)
    if gain:
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return layer


class LayerNorm(nn.Module):
    """Layer normalisation of k networks side by side, each with its own scale and shift: [k, M, n], or [..., n].

    Ba et al. 2016, https://arxiv.org/abs/1607.06450. Each row of a layer gets mean 0 and variance 1.

    Args:
        n: units of the layer.
        k: how many networks; None: one, and no axis for them.
        streams: layers that lie side by side in the last axis, each normalised by itself.
    """

    def __init__(self, n: int, k: int | None = None, streams: int = 1) -> None:
        super().__init__()
        self.shape, self.streams = (n,), streams
        shape = (streams * n,) if k is None else (k, 1, streams * n)
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def run(self, x: Tensor) -> Tensor:
        """Run the forward pass, without the hooks of nn.Module."""
        weight, bias = self.weight, self.bias
        if weight.shape == self.shape:
            return F.layer_norm(x, self.shape, weight, bias)
        if self.streams > 1:
            x = F.layer_norm(x.unflatten(-1, (self.streams, -1)), self.shape).flatten(-2)
        else:
            x = F.layer_norm(x, self.shape)
        return x * weight + bias

    forward = run

    def first(self, x: Tensor) -> Tensor:
        """Normalise rows [M, n] of the first of the k networks."""
        return F.layer_norm(x, self.shape, self.weight[0, 0], self.bias[0, 0])


class Layers(nn.Module):
    """Linear layers with an activation after each: [..., sizes[0]] to [..., sizes[-1]].

    Small networks spend their time in Python, so `run` reads the parameters where modules keep them and makes one call
    a layer, where a stack of nn.Linear makes five.

    Args:
        sizes: of the input and of each layer.
        activation: its name.
        gain: of the orthogonal initialisation; see `linear`.
        rounds: whether products between layers are rounded to bfloat16; see `precision.hidden_product`.
        norm: whether each layer is normalised before its activation; see `LayerNorm`.
    """

    def __init__(
        self, sizes: Sequence[int], activation: str, gain: float, *, rounds: bool = False, norm: bool = False
    ) -> None:
        super().__init__()
        self.rounds = rounds
        self.activation, self.features = ACTIVATIONS[activation], sizes[-1]
        self.names = [(f"weight{i}", f"bias{i}") for i in range(len(sizes) - 1)]
        for (weight, bias), (i, o) in zip(self.names, itertools.pairwise(sizes), strict=True):
            layer = linear(i, o, gain)
            setattr(self, weight, layer.weight)
            setattr(self, bias, layer.bias)
        self.norms = nn.ModuleList(map(LayerNorm, sizes[1:])) if norm else None

    def run(self, x: Tensor) -> Tensor:
        """Run the forward pass, without the hooks of nn.Module."""
        parameters, activation, norms = self._parameters, self.activation, self.norms
        product: Product = F.linear
        for i, (weight, bias) in enumerate(self.names):
            x = product(x, parameters[weight], parameters[bias])
            x = activation(x if norms is None else norms[i].run(x))  # type: ignore[operator]
            product = hidden_product(F.linear, self.rounds)
        return x

    forward = run


def flat_size(space: gym.Space) -> int:
    """Count the numbers of an observation once it is a vector; image spaces excluded."""
    if isinstance(space, gym.spaces.Dict):
        return sum(flat_size(part) for key, part in space.items() if key != "action_mask")
    if isinstance(space, gym.spaces.Discrete):
        return int(space.n)  # as one-hot
    return math.prod(space.shape or (1,))


class Flatten(nn.Module):
    """A layer that turns observations into vectors, normalised by running statistics if asked for."""

    def __init__(self, space: gym.Space, normalize: bool) -> None:
        super().__init__()
        for key, part in space.items() if isinstance(space, gym.spaces.Dict) else ():
            if is_image(part):
                keep = "network=cnn, which reads images and vectors, or a wrapper (env.wrappers) that drops them"
                raise UserError(f"observations[{key!r}] are images {part.shape}, and all become one vector: use {keep}")
        self.norm = RunningNorm((flat_size(space),), exact=_holds_float64(space)) if normalize else None
        self.part = _flattener(space)
        self.is_dict = isinstance(space, gym.spaces.Dict)
        self.parts = (
            [(key, _flattener(part)) for key, part in space.items() if key != "action_mask"]
            if isinstance(space, gym.spaces.Dict)
            else []
        )

    def flat(self, obs: Obs) -> Tensor:
        """Turn observations into vectors [..., n], not normalised; float64 where it is kept for that, else float32."""
        if self.is_dict:
            return torch.cat([part(obs[key]) for key, part in self.parts], -1)
        return self.part(obs)

    def run(self, obs: Obs) -> Tensor:
        """Run the forward pass: vectors [..., n] float32."""
        x = self.flat(obs)
        return x if self.norm is None else self.norm(x)

    forward = run


def _flattener(space: gym.Space) -> Callable[[Tensor], Tensor]:
    """Make the function that turns a part's observations into vectors; a choice becomes one-hot."""
    dims = len(space.shape or ())
    if isinstance(space, gym.spaces.Discrete):
        n = int(space.n)
        return lambda x: torch.zeros(*x.shape, n, device=x.device).scatter_(-1, x.unsqueeze(-1), 1.0)
    if dims == 1 and space.dtype in (np.float32, np.float64):
        return lambda x: x
    if dims == 0:
        return lambda x: x.unsqueeze(-1)
    return lambda x: (x if x.is_floating_point() else x.to(torch.float32)).flatten(-dims)


def _holds_float64(space: gym.Space) -> bool:
    if isinstance(space, gym.spaces.Dict):
        return any(_holds_float64(part) for part in space.values())
    return space.dtype == np.float64


def is_image(space: gym.Space) -> bool:
    """Whether a space holds images: a Box of three axes, or of four where it is a stack of images of bytes."""
    axes = len(space.shape) if isinstance(space, gym.spaces.Box) else 0
    return axes == 3 or (axes == 4 and space.dtype == np.uint8)
