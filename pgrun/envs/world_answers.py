"""Checks of what the functions of a world of tensors return, made once, when each is first called.

Shapes: B copies, *S one state, *O one observation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.envs.reading import said, shown
from pgrun.errors import UserError

METHODS = ("initial", "observe", "step")
OUTCOME = "return Outcome(state, reward=…, terminated=…)"


class Fault(NamedTuple):
    """A fault of something that a world's method returned."""

    part: str  # of what it returned, as "the reward of "; "" for all of it
    method: str
    what: str
    right: str  # what would be right

    def line(self, name: str) -> str:
        """Say it of a world with this name."""
        return f"{self.part}{name}'s {self.method}() {self.what}: {self.right}"


def name_of(world: Any) -> str:
    """Return a world's class as a config names it."""
    return f"{type(world).__module__}.{type(world).__qualname__}"


def check_methods(world: Any, base: type) -> None:
    """Raise UserError if a world lacks one of the methods that each has of its own."""
    for method in METHODS:
        if getattr(type(world), method, None) in (None, getattr(base, method)):
            kinds = {"initial": "initial(n, rng)", "observe": "observe(state)", "step": "step(state, action, rng)"}
            raise UserError(f"{name_of(world)} has no {method}() of its own: write {kinds[method]}")


def refuse(faults: Iterator[Fault], world: Any) -> None:
    """Raise UserError for the first fault, if there is one."""
    for fault in faults:
        raise UserError(fault.line(name_of(world)))


def initial_faults(state: Any, n: int) -> Iterator[Fault]:
    """Yield what is wrong with n start states."""
    if not isinstance(state, Tensor):
        yield Fault("", "initial", f"returned {shown(state)}", f"return a tensor of shape ({n}, …)")
    elif state.dim() == 0 or len(state) != n:
        right = f"return ({n}, …), a row for each copy"
        yield Fault("the state of ", "initial", f"is {tuple(state.shape)} for {n} copies", right)


def observe_faults(obs: Any, space: gym.Space, n: int) -> Iterator[Fault]:
    """Yield what is wrong with n observations."""
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(obs, dict) or obs.keys() != space.spaces.keys():
            given = f"a dict of {', '.join(map(repr, obs)) or 'nothing'}" if isinstance(obs, dict) else shown(obs)
            keys = ", ".join(map(repr, space.spaces))
            yield Fault("", "observe", f"returned {given}", f"return a dict of {keys}, as obs_space says")
            return
        parts = {f"part {key!r} of ": (obs[key], part) for key, part in space.items()}
    else:
        parts = {"": (obs, space)}
    for part, (x, kind) in parts.items():
        want = (n, *(kind.shape or ()))
        if not isinstance(x, Tensor):
            yield Fault(part, "observe", f"returned {shown(x)}", f"return a tensor of shape {want}")
        elif tuple(x.shape) != want:
            yield Fault(part or "the observation of ", "observe", f"is {tuple(x.shape)}", f"return {want}")
        elif isinstance(kind, gym.spaces.Box) and kind.dtype.kind == "f" and not x.is_floating_point():
            right = f"return torch.float32, as obs_space says ({said(kind)})"
            yield Fault(part or "the observation of ", "observe", f"is of type {x.dtype}", right)


def step_faults(outcome: Any, state: Tensor) -> Iterator[Fault]:
    """Yield what is wrong with the outcome of a step from states [B, *S]."""
    if not all(hasattr(outcome, field) for field in ("state", "reward", "terminated", "streams")):
        yield Fault("", "step", f"returned {shown(outcome)}", OUTCOME)
        return
    n = len(state)
    wanted = {"state": tuple(state.shape), "reward": (n,), "terminated": (n,)}
    found = {"state": outcome.state, "reward": outcome.reward, "terminated": outcome.terminated}
    if isinstance(outcome.streams, dict):
        found |= {f"stream {name!r}": x for name, x in outcome.streams.items()}
    else:
        yield Fault("the streams of ", "step", f"are {shown(outcome.streams)}", "return a dict of tensors")
    for what, x in found.items():
        want = wanted.get(what, (n,))
        if not isinstance(x, Tensor):
            yield Fault(f"the {what} of ", "step", f"is {shown(x)}", f"return a tensor of shape {want}")
        elif tuple(x.shape) != want:
            yield Fault(f"the {what} of ", "step", f"is {tuple(x.shape)}", f"return {want}")
        elif what == "terminated" and x.dtype is not torch.bool:
            yield Fault("the terminated of ", "step", f"is of type {x.dtype}", "return torch.bool, as x > 2.0 is")
