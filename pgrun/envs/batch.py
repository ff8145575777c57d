"""Checks of natively vectorised environments, whose copies can't be wrapped one by one."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space

from pgrun.envs.interface import check_form
from pgrun.envs.masks import KEY, check_space
from pgrun.envs.reading import look_at_bounds, look_closely, reader, shown
from pgrun.errors import UserError

spaces = gym.spaces


def trust_actions(env: Any) -> None:
    """Let a natively vectorised environment's space of actions take all for its own.

    Policies act in the space that they are given, and Gymnasium's own environments ask it at every step: a fifth of a
    step of CartPole.
    """
    if isinstance(space := getattr(env, "action_space", None), gym.Space):
        env.action_space = copy.copy(space)  # not for others who have the space
        env.action_space.contains = _takes


def _takes(x: Any) -> bool:
    return True


class Batch:
    """Reads the observations [B, *O] of all copies, and checks those of the first reset and step closely."""

    def __init__(self, space: gym.Space, actions: gym.Space, num_envs: int, name: str, float64: bool) -> None:
        self.num_envs, self.called = num_envs, name
        self.space, self.name, self.float64 = batch_space(space, num_envs), f"the observation of {name}", float64
        check_space(space, actions, self.name)
        look_at_bounds(actions, name)
        self.masked = isinstance(space, spaces.Dict) and KEY in space.spaces
        if self.masked and (getattr(space[KEY], "low", np.zeros(1)) < 0).any():  # type: ignore[index]
            raise UserError(f"{self.name}[{KEY!r}] holds numbers below 0; use 0 and 1, or env.backend=sync or async")
        self.reader, self.looks = reader(self.space, self.name, copy=False), True

    def read(self, obs: Any, info: dict[str, Any], ended: np.ndarray | None = None) -> Any:
        """Read all copies' observations after a reset or a step.

        Args:
            obs: [B, *O].
            info: as returned with them.
            ended: [B] bool, whose episode ended; None after a reset.

        Raises:
            UserError: the observations are not in their space.
        """
        read = self.reader(obs)
        if self.looks:
            look_closely(self.space, read, self.name, float64=self.float64)
            if KEY in info and not self.masked:
                raise UserError(
                    f"{self.name} has its mask in info[{KEY!r}], which is read of single copies alone: use "
                    "env.backend=sync or async, or put it into the observation"
                )
            self.looks = ended is None
        if self.masked:
            none = (read[KEY] == 0).reshape(len(read[KEY]), -1).all(-1)
            if (none if ended is None else none & ~ended).any():
                raise UserError(f"{self.name}[{KEY!r}] forbids every action of a copy: one at least has to be allowed")
        return read

    def begin(self, answer: Any) -> Any:
        """Check the form of what `reset` returned, and read it."""
        check_form(answer, "reset", self.called)
        return self.read(*answer)

    def check_step(self, answer: Any) -> None:
        """Raise UserError unless the first step returned five parts, of which three are [B]."""
        check_form(answer, "step", self.called)
        for value, what in zip(answer[1:4], ("reward", "terminated", "truncated"), strict=True):
            if np.shape(value) != (self.num_envs,) or np.asarray(value).dtype.kind not in "biuf":
                raise UserError(
                    f"{what} of {self.called} is {shown(value)}; Gymnasium's interface wants an array of shape "
                    f"({self.num_envs},), one for each copy"
                )
