"""The last observations of an environment as one, for policies without a memory."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium as gym
import numpy as np

from pgrun.envs.masks import KEY
from pgrun.envs.reading import Reader, reader
from pgrun.errors import UserError

spaces = gym.spaces
ALONE = ""  # the key of observations that are no Dict


class Stack(gym.Wrapper):
    """A wrapper that shows the last `count` observations, the oldest first; an episode's first one fills its stack.

    Vectors are put end to end. Images get an axis in front, which `network=cnn` reads as more channels. In a Dict each
    part is stacked by itself, but not an action mask.

    Args:
        env: the environment.
        count: how many.
        name: the environment's, for refusals.

    Raises:
        UserError: observations are no vectors or images.
    """

    def __init__(self, env: gym.Env, count: int, name: str) -> None:
        super().__init__(env)
        self.count = count
        given = env.observation_space
        parts: dict[str, gym.Space] = dict(given.items()) if isinstance(given, spaces.Dict) else {ALONE: given}
        label = f"the observation of {name}"
        readers = {
            key: reader(part, f"{label}[{key!r}]" if key else label, copy=False)
            for key, part in parts.items()
            if key != KEY
        }
        labels = {key: f"observation[{key!r}] of {name}" if key else label for key in parts}
        stacked = {key: part if key == KEY else stacked_space(part, count, labels[key]) for key, part in parts.items()}
        self.observation_space = spaces.Dict(stacked) if isinstance(given, spaces.Dict) else stacked[ALONE]
        self.parts_of = functools.partial(read_parts, readers)  # a partial is no state: see `capture_object`
        self.frames: dict[str, np.ndarray] = {}  # [count, *O] of each part

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see `gymnasium.Env.reset`."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.frames = {key: np.repeat(seen[None], self.count, axis=0) for key, seen in self.parts_of(obs).items()}
        return self.shown(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take one step; see `gymnasium.Env.step`."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        for key, seen in self.parts_of(obs).items():
            self.frames[key] = np.concatenate([self.frames[key][1:], seen[None]])
        return self.shown(obs), reward, terminated, truncated, info  # type: ignore[return-value]

    def shown(self, obs: Any) -> Any:
        """Return the stack, with the action mask of the latest observation."""
        space = self.observation_space
        if not isinstance(space, spaces.Dict):
            return self.frames[ALONE].reshape(space.shape or ())
        stacked: dict[str, Any] = {key: part.reshape(space[key].shape or ()) for key, part in self.frames.items()}
        return {**stacked, KEY: obs[KEY]} if KEY in space.spaces else stacked


def read_parts(readers: dict[str, Reader], obs: Any) -> dict[str, np.ndarray]:
    """Read an observation's parts, each into its space's form."""
    return {key: read(obs[key] if key else obs) for key, read in readers.items()}


def stacked_space(space: gym.Space, count: int, label: str) -> gym.Space:
    """Return the space of stacks of a part's observations.

    Raises:
        UserError: they can't be stacked.
    """
    axes = len(space.shape or ())
    if not isinstance(space, spaces.Box | spaces.MultiBinary) or axes > 3:
        kind = "a choice, in" if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) else "in"
        raise UserError(
            f"env.stack={count} is for vectors and images, and {label} is {kind} {space}: use env.stack=1, and "
            "network=gru or lstm, which remember what they saw"
        )
    image = axes == 3 or (axes == 2 and space.dtype == np.uint8)
    shape = (count, *space.shape) if image or not axes else (count * space.shape[0], *space.shape[1:])
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary(shape)

    def bound(x: np.ndarray) -> np.ndarray:
        return np.repeat(x[None], count, axis=0).reshape(shape)

    return spaces.Box(bound(space.low), bound(space.high), shape, space.dtype.type)
