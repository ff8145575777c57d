"""The way between an environment's own units and a policy's, on tensors alone, so that a graph can hold it.

It does what `codecs` and `outside` do on arrays. Shapes: B copies, *O and *A one observation and action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.data.types import Obs
from pgrun.envs.checked import ALONE
from pgrun.envs.codecs import HUGE, observation_codec
from pgrun.envs.masks import KEY
from pgrun.envs.outside import AgentsOutside, Outside
from pgrun.errors import UserError

spaces = gym.spaces


class Port(NamedTuple):
    """An input or output of a graph: a tensor with a leading axis of copies."""

    name: str
    shape: tuple[int, ...]  # without the axis of copies
    dtype: torch.dtype
    meaning: str  # its space, or what it is
    space: gym.Space | None = None  # of the environment, where it is one of its own
    low: Any = None  # its bounds, where it has some
    high: Any = None


class Codec(NamedTuple):
    """The conversions that stand before and after a policy in a graph."""

    inputs: list[Port]
    outputs: list[Port]
    observe: Callable[[Sequence[Tensor]], Obs]  # of the inputs, in their order
    act: Callable[[Tensor], list[Tensor]]  # to the outputs, in their order


def codec_of(outside: Outside | AgentsOutside, seen: gym.Space) -> Codec:
    """Make the codec of an environment.

    Args:
        outside: the environment's own spaces.
        seen: the observation space of the policy.
    """
    return agents_codec(outside) if isinstance(outside, AgentsOutside) else single_codec(outside, seen)


def single_codec(outside: Outside, seen: gym.Space) -> Codec:
    """Make the codec of an environment with one agent."""
    own, mask = outside.observations, outside.mask
    alone = not isinstance(own, spaces.Dict)
    if outside.inside and isinstance(own, spaces.Dict):
        own = spaces.Dict({key: part for key, part in own.items() if key != KEY})
    inputs, read = reader(own, seen[ALONE] if alone and isinstance(seen, spaces.Dict) else seen, "obs")
    if mask is not None:
        inputs.append(Port(KEY, (mask.width,), torch.int8, "1 where an action is allowed, else 0"))

    def observe(tensors: Sequence[Tensor]) -> Obs:
        if mask is None:
            return read(tensors)
        obs = read(tensors[:-1])
        return {**({ALONE: obs} if alone else obs), KEY: tensors[-1]}

    act = acting(outside.actions)
    return Codec(inputs, [port("action", outside.actions)], observe, lambda action: [act(action)])


def agents_codec(outside: AgentsOutside) -> Codec:
    """Make the codec of an environment with several agents."""
    inputs: list[Port] = []
    readers: list[tuple[int, Callable[[Sequence[Tensor]], Obs]]] = []  # with the number of inputs of each
    for agent, space in outside.observations.items():
        ports, read = reader(space, observation_codec(space)[0], f"obs.{agent}")
        inputs += ports
        readers.append((len(ports), read))

    def observe(tensors: Sequence[Tensor]) -> Obs:
        by_agent, at = [], 0
        for count, read in readers:
            by_agent.append(read(tensors[at : at + count]))
            at += count
        return outside.join(by_agent)

    outputs = [port(f"action.{agent}", space) for agent, space in outside.actions.items()]
    actors = [acting(space) for space in outside.actions.values()]

    def act(action: Tensor) -> list[Tensor]:
        return [function(part) for function, part in zip(actors, outside.part(action), strict=True)]

    return Codec(inputs, outputs, observe, act)


def reader(own: gym.Space, seen: gym.Space, name: str) -> tuple[list[Port], Callable[[Sequence[Tensor]], Obs]]:
    """Make the ports of an observation space, and the function from their tensors to a policy's observations."""
    if not isinstance(own, spaces.Dict):
        read = reading(own, seen)
        return [port(name, own)], lambda tensors: read(tensors[0])
    parts, reads = dict(leaves(own)), {}
    for key, part in parts.items():
        reads[key] = reading(part, seen[key])  # type: ignore[index]
    return (
        [port(f"{name}.{key}", part) for key, part in parts.items()],
        lambda tensors: {key: function(x) for (key, function), x in zip(reads.items(), tensors, strict=True)},
    )


def leaves(space: spaces.Dict, prefix: str = "") -> list[tuple[str, gym.Space]]:
    """List the parts of a Dict, and of Dicts in it, under dotted keys."""
    found: list[tuple[str, gym.Space]] = []
    for key, part in space.items():
        found += leaves(part, f"{prefix}{key}.") if isinstance(part, spaces.Dict) else [(f"{prefix}{key}", part)]
    return found


def port(name: str, space: gym.Space) -> Port:
    """Make the port of a space."""
    dtype = torch.from_numpy(np.zeros((), np.int64 if isinstance(space, spaces.Discrete) else space.dtype)).dtype
    box = isinstance(space, spaces.Box)
    low, high = (space.low, space.high) if isinstance(space, spaces.Box) else (None, None)
    meaning = f"Box of {space.dtype}" if box else str(space)
    return Port(name, tuple(space.shape or ()), dtype, meaning, space, low, high)


def reading(own: gym.Space, seen: gym.Space) -> Callable[[Tensor], Tensor]:
    """Make the function from an environment's observations [B, *O] to a policy's; see `observation_codec`."""
    if isinstance(own, spaces.Discrete):
        start = int(own.start)
        return lambda x: x - start
    if own.dtype == np.uint8 and seen.dtype == np.uint8:
        return lambda x: x
    dtype = torch.float64 if seen.dtype == np.float64 else torch.float32
    return lambda x: x.to(dtype)


def acting(own: gym.Space) -> Callable[[Tensor], Tensor]:
    """Make the function from a policy's actions to an environment's [B, *A]; see `action_codec`."""
    if isinstance(own, spaces.Discrete):
        start = int(own.start)
        return lambda a: a + start
    dtype, shape = torch.from_numpy(np.zeros((), own.dtype)).dtype, tuple(own.shape or ())
    if isinstance(own, spaces.MultiDiscrete):
        starts = torch.from_numpy(np.array(own.start))
        return lambda a: a.to(dtype).reshape(-1, *shape) + starts.to(dtype)
    if isinstance(own, spaces.MultiBinary):
        return lambda a: a.to(dtype).reshape(-1, *shape)
    if not isinstance(own, spaces.Box):
        raise UserError(f"actions in {own} can't be in a graph: Discrete, MultiDiscrete, MultiBinary or Box can")
    low64, high64 = own.low.astype(np.float64), own.high.astype(np.float64)
    bounded = (np.abs(low64) < HUGE) & (np.abs(high64) < HUGE)
    low, high = np.where(bounded, low64, -1.0), np.where(bounded, high64, 1.0)
    half, middle = (torch.from_numpy(((high + s * low) / 2.0).astype(np.float32)) for s in (-1.0, 1.0))
    edge = torch.from_numpy(np.where(bounded, 1.0, np.inf).astype(np.float32))
    whole = np.issubdtype(own.dtype, np.integer)
    most, least = torch.from_numpy(high64), torch.from_numpy(low64)

    def rescale(action: Tensor) -> Tensor:
        a = middle + half * torch.clamp(action.reshape(-1, *shape), -edge, edge)
        a = a.to(torch.float64) if whole or dtype == torch.float64 else a
        a = torch.round(a) if whole else a
        return torch.clamp(a, least.to(a.dtype), most.to(a.dtype)).to(dtype)

    return rescale
