"""Copies of a Gymnasium environment side by side, in this process or in one each.

They replace Gymnasium's own vector environments. Those build an extra copy to see its spaces, merge everything that
copies put into `info`, and wait for ever for a copy that can't answer.

Of `info` only numbers under the keys that are asked for are read; see `pgrun.envs.infos`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from pgrun.envs.infos import Over
from pgrun.envs.one_copy import NOTHING, Copy, Make
from pgrun.errors import UserError

log = logging.getLogger("pgrun")


class Copies:
    """Copies in this process, one after the other.

    Args:
        makers: one for each copy.
        same_step: whether an ended episode's copy begins anew in the same step, else in the next one.
        reads: the keys of `info` that are asked for.
    """

    def __init__(self, makers: Sequence[Make], *, same_step: bool, reads: Mapping[str, Over] = NOTHING) -> None:
        self.num_envs, self.same_step, self.reads = len(makers), same_step, reads
        self.closed = False
        self.copies: list[Copy] = []
        self._steps = ["step"] * self.num_envs
        self._autoreset_envs = np.zeros(self.num_envs, dtype=bool)  # not same_step: copies to begin anew next step
        try:
            spaces = self.begin(makers)
        except BaseException:
            self.close()
            raise
        self.single_observation_space, self.single_action_space = spaces[0]
        for i, pair in enumerate(spaces):
            if pair != spaces[0]:
                raise UserError(f"environment {i} has other spaces than environment 0: {pair[0]}, {pair[1]}")
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def begin(self, makers: Sequence[Make]) -> list[tuple[gym.Space, gym.Space]]:
        """Make the copies and return the spaces of each."""
        for i, make in enumerate(makers):
            self.copies.append(Copy(make, i, self.same_step, self.reads))
        return [copy.spaces() for copy in self.copies]

    def all(self, methods: Sequence[str], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of each copy and return the results."""
        calls = zip(self.copies, methods, arguments, strict=True)
        return [getattr(copy, method)(*given) for copy, method, given in calls]

    def reset(self, *, seed: Sequence[int] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every copy."""
        self._autoreset_envs[:] = False
        seeds = [None] * self.num_envs if seed is None else seed
        obs, said = zip(*self.all(["reset"] * self.num_envs, [(s,) for s in seeds]), strict=True)
        return self.batch(obs), listed(said)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one step in every copy; a copy that is to begin anew ignores its action."""
        per_copy = iterate(self.action_space, actions)
        if self._autoreset_envs.any():
            methods = ["anew" if begins else "step" for begins in self._autoreset_envs]
            answers = self.all(
                methods, [() if method == "anew" else (a,) for a, method in zip(per_copy, methods, strict=True)]
            )
        else:
            answers = self.all(self._steps, [(a,) for a in per_copy])
        obs, reward, terminated, truncated, said = zip(*answers, strict=True)
        ends, cuts = np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)
        if not self.same_step:
            self._autoreset_envs = ends | cuts
        return self.batch(obs), np.array(reward, dtype=np.float64), ends, cuts, listed(said)

    def batch(self, obs: Sequence[Any]) -> Any:
        """Put the copies' observations into a batch, as Gymnasium does."""
        space = self.single_observation_space
        if type(space) is gym.spaces.Box:  # of few numbers one is made sooner than it is found out how
            return np.array(obs, dtype=space.dtype)
        return concatenate(space, obs, create_empty_array(space, self.num_envs))  # type: ignore[arg-type]

    def call(self, name: str, *args: Any) -> tuple[Any, ...]:
        """Return a method's results, or an attribute's values, of all copies."""
        return tuple(self.all(["call"] * self.num_envs, [(name, *args)] * self.num_envs))

    @property
    def envs(self) -> list[gym.Env]:
        """The environments of the copies in this process."""
        return [copy.env for copy in self.copies]

    def frames(self, row: int) -> list[Any]:
        """Return a copy's frames since the last step; see `pgrun.envs.frames`."""
        return self.copies[row].frames()

    @property
    def metadata(self) -> dict[str, Any]:
        """The environment's own metadata, such as its render modes."""
        return dict(self.call("metadata")[0] or {})

    def close(self) -> None:
        """Close all copies, once."""
        if not self.closed:
            self.closed = True
            if reasons := [why for why in self.end() if why]:
                log.warning("%d of %d environments failed in close (%s)", len(reasons), self.num_envs, reasons[0])

    def end(self) -> list[str]:
        """Close the copies that were made, and return what went wrong in each."""
        return [copy.close() for copy in self.copies]


def listed(said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge the copies' dicts into lists by key, None where a copy has no entry."""
    keys = {key for info in said for key in info}
    return {key: [info.get(key) for info in said] for key in keys}
