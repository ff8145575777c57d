"""Codecs between an environment's spaces and those of policies: observations to tensors, actions to arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.data.types import Obs
from pgrun.envs.hybrid_actions import hybrid_codec
from pgrun.errors import UserError

spaces = gym.spaces
HUGE = 1e10  # a bound beyond it means that there is none


def observation_codec(space: gym.Space, *, float64: bool = False) -> tuple[gym.Space, Callable[[Any], Obs]]:
    """Return the space that networks see, and a function from a batch of observations to tensors in it.

    The tensors are float32; Discrete starts at 0, uint8 images stay as they are, and a Dict is read by its parts (a
    Dict in a Dict as "outer.inner"). With `float64`, numbers that float32 would round stay float64.
    """
    if isinstance(space, spaces.Dict):
        if not space.spaces:
            raise UserError("the observations are a Dict of nothing: there has to be something to see")
        if any(isinstance(part, spaces.Dict) for part in space.values()):
            flat, codec_of_flat = observation_codec(spaces.Dict(dict(_leaves(space))), float64=float64)
            return flat, lambda obs: codec_of_flat(dict(_leaves(obs)))
        parts = {key: observation_codec(part, float64=float64) for key, part in space.items()}
        codec = {key: function for key, (_, function) in parts.items()}
        return (
            spaces.Dict({key: part for key, (part, _) in parts.items()}),
            lambda obs: {key: function(obs[key]) for key, function in codec.items()},
        )
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return spaces.Discrete(int(space.n)), lambda obs: torch.from_numpy(np.asarray(obs, dtype=np.int64) - start)
    if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (3, 4):  # images, or stacks
        return space, lambda obs: torch.from_numpy(np.array(obs))
    if isinstance(space, (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete)):
        rounded = isinstance(space, spaces.Box) and not np.can_cast(space.dtype, np.float32)
        dtype = np.float64 if float64 and rounded else np.float32
        low = space.low if isinstance(space, spaces.Box) else -np.inf
        high = space.high if isinstance(space, spaces.Box) else np.inf
        box = spaces.Box(dtype(low), dtype(high), space.shape, dtype)  # type: ignore[arg-type]
        return box, lambda obs: torch.from_numpy(np.array(obs, dtype=dtype))
    raise UserError(f"observations in {space} can't be read: use Box, Discrete, MultiDiscrete, MultiBinary or Dict")


def _leaves(nested: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parts of a Dict space, or of its observations, under dotted keys."""
    for key, part in nested.items():
        if isinstance(part, (dict, spaces.Dict)):
            yield from _leaves(part, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", part


def action_codec(space: gym.Space) -> tuple[gym.Space, Callable[[Tensor], Any]]:
    """Return the action space that policies see, and a function from a batch of their actions to the environment's.

    A Box becomes canonical: one axis, bounded coordinates run over [−1, 1] (clipped, then rescaled), unbounded ones
    pass (clipped at the one bound that they may have).
    """
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        if start == 0:
            return space, lambda a: a.cpu().numpy()
        return spaces.Discrete(int(space.n)), lambda a: a.cpu().numpy() + start
    if isinstance(space, spaces.MultiDiscrete):
        starts, dtype, shape = space.start, space.dtype, space.shape
        canonical_n = spaces.MultiDiscrete(space.nvec.flatten())
        return canonical_n, lambda a: a.cpu().numpy().astype(dtype).reshape(-1, *shape) + starts
    if isinstance(space, spaces.MultiBinary):
        dtype, shape = space.dtype, space.shape
        return spaces.MultiBinary(math.prod(shape)), lambda a: a.cpu().numpy().astype(dtype).reshape(-1, *shape)
    if isinstance(space, spaces.Box):
        low64, high64 = space.low.astype(np.float64), space.high.astype(np.float64)
        bounded = (np.abs(low64) < HUGE) & (np.abs(high64) < HUGE)
        low, high = np.where(bounded, low64, -1.0), np.where(bounded, high64, 1.0)
        half, middle = ((high - low) / 2.0).astype(np.float32), ((high + low) / 2.0).astype(np.float32)
        edge = np.where(bounded, 1.0, np.inf).astype(np.float32)
        canonical = spaces.Box(-edge.flatten(), edge.flatten(), dtype=np.float32)
        shape, box_dtype, whole = space.shape, space.dtype, np.issubdtype(space.dtype, np.integer)

        def rescale(action: Tensor) -> np.ndarray:
            # not np.clip: it takes longer than all the rest for a few numbers
            a = np.maximum(np.minimum(action.cpu().numpy().reshape(-1, *shape), edge), -edge)
            a = middle + half * a
            return np.maximum(np.minimum(np.rint(a) if whole else a, space.high), space.low).astype(box_dtype)

        return canonical, rescale
    if isinstance(space, spaces.Tuple | spaces.Dict):
        return hybrid_codec(space, action_codec)
    raise UserError(f"actions in {space} can't be taken: use Discrete, MultiDiscrete, MultiBinary or Box")
