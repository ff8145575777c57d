"""Checks that an environment's numbers are finite, before anything learns from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pgrun.data.types import Obs, Step, Transition
from pgrun.errors import Diverged, EnvNotFinite


def check_observations(rollout: Transition) -> None:
    """Raise an error for the first number in a rollout [T, B, ...] that is not finite.

    Raises:
        EnvNotFinite: it is an environment's observation or reward.
        Diverged: it is the policy's action.
    """
    before, after = named(rollout.obs), named(rollout.next_obs)
    shown = (*before.items(), *after.items(), ("the reward", rollout.reward))
    if all_finite([x for _, x in shown]):
        return
    valid = rollout.valid
    for t in range(len(valid)):
        steps = int(valid[: t + 1].sum())
        for name, x in before.items():  # each one that follows a step was checked as next_obs
            refuse(name, x[t], steps - int(valid[t].sum()), "after a reset")
        action = rollout.action[t]
        if not finite(action):
            b = first(action)[0]
            raise Diverged(f"the policy's action in environment {b} is {float(action[tuple(first(action))])}")
        for name, x in (*after.items(), ("the reward", rollout.reward)):
            refuse(name, x[t], steps, "after a step")


def check_step(obs: Obs, step: Step, steps: int) -> None:
    """Check the observations that a policy acted on and the rewards that followed, without filler rows.

    Args:
        obs: [B, *O], before the step.
        step: what followed.
        steps: how many steps all environments took in this evaluation, this one included.

    Raises:
        EnvNotFinite: a number is not finite.
    """
    for name, x in (*named(obs).items(), ("the reward", step.reward)):
        if not finite(x):
            rows = step.valid.reshape(-1, *([1] * (x.dim() - 1)))
            refuse(f"in an evaluation, at its step {steps}, {name}", torch.where(rows, x, torch.zeros_like(x)), 0, "")


def named(obs: Obs) -> dict[str, Tensor]:
    """Return the parts of an observation by their names in messages."""
    if isinstance(obs, dict):
        return {f"the observation {key!r}": x for key, x in obs.items()}
    return {"the observation": obs}


def finite(x: Tensor) -> bool:
    """Tell whether all numbers are finite."""
    if not x.is_floating_point() or math.isfinite(float(x.sum())):  # the sum is sooner had, and nearly always tells
        return True
    return bool(torch.isfinite(x).all())


def all_finite(parts: Sequence[Tensor]) -> bool:
    """Tell whether all numbers in some tensors are finite; on a GPU it is waited for once."""
    numbers = [x for x in parts if x.is_floating_point()]
    if any(x.is_cuda for x in numbers) and math.isfinite(float(torch.stack([x.sum().double() for x in numbers]).sum())):
        return True
    return all(finite(x) for x in numbers)


def first(x: Tensor) -> list[int]:
    """Return the index of the first number that is not finite."""
    return [int(i) for i in (~torch.isfinite(x)).nonzero()[0]]


def refuse(name: str, x: Tensor, steps: int, when: str) -> None:
    """Raise EnvNotFinite if one of the environments' numbers [B, ...] is not finite.

    Args:
        name: of the numbers, for the message.
        x: [B, ...].
        steps: environment steps so far.
        when: "after a reset", "after a step", or "".
    """
    if finite(x):
        return
    b, *place = first(x)
    coordinate = f", coordinate {place}" if place else ""
    raise EnvNotFinite(f"{name} of environment {b} is {float(x[(b, *place)])}{coordinate}", steps, when)
