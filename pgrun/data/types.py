"""The data that flows round the loop.

Shapes: T time, B environments, *O one observation, *A one action. A Dict observation space makes `obs` a dict of
tensors; everything else is a tensor. Where N agents act at once, the spaces are Dicts by agent, and `reward` and
`discount` have a last axis of agents, in the spaces' order. An action then is the agents' actions one after the other,
discrete choices as one-hot: [B, A].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import torch
import torch.nn.functional as F
from torch import Tensor

from pgrun.core import ranks

Obs = Any  # Tensor [B, *O], or a dict of them
NOT_CHANGED = "its copies can't be made anew one by one"  # `unchangeable` of environments that don't say
WRAPPED = "return_wrapped"  # the stream of rewards after a user's wrappers, if they change them
Carry = tuple[Tensor, ...]  # what a policy remembers between steps, each [B, ...]; often ()


class Transition(NamedTuple):
    """One rollout [T, B, ...], or a sample of rows [M, ...]."""

    obs: Obs  # [T, B, *O]
    action: Tensor  # [T, B, *A]
    reward: Tensor  # [T, B]   or [T, B, N]
    discount: Tensor  # [T, B]   or [T, B, N]; 0 where the MDP terminated, else 1: whether to bootstrap
    next_obs: Obs  # [T, B, *O]  the true successor, never an observation after an autoreset
    last: Tensor  # [T, B] bool  terminated or truncated: no trace crosses it
    valid: Tensor  # [T, B] bool  False on autoreset filler and on padding
    extras: dict[str, Tensor]  # what act() recorded, and what an update adds: psi, target, …


class Step(NamedTuple):
    """The answer of B environments to one action each."""

    obs: Obs  # [B, *O]    to act on next
    next_obs: Obs  # [B, *O]    the true successor of the last action; the same object as `obs` unless an env was reset
    reward: Tensor  # [B]        float32, as the environment pays it; or [B, N]
    discount: Tensor  # [B]        float32; or [B, N]
    last: Tensor  # [B] bool
    valid: Tensor  # [B] bool
    # Rewards [B] that are only logged, by the name of their return: `return_true` is logged as train/return_true.
    # The stream `return` is what the environment paid, if `reward` is something else (shaped, say).
    streams: dict[str, Tensor] = {}  # noqa: RUF012 (never written to)
    # [B] bool, the ends of the environment's own episodes; None: as `last` (a wrapper may end one at each life lost)
    over: Tensor | None = None
    # Numbers of `info` [B] of the episodes that end here, by their curves' names; NaN where none ends, or has none.
    infos: dict[str, Tensor] = {}  # noqa: RUF012 (never written to)


class Moved(NamedTuple):
    """B copies of a world of tensors after a step; fields as in `Step`.

    In steady environments those whose episode ended have begun anew; in others `settle` has still to do that.
    """

    state: Tensor  # [B, *S]
    t: Tensor  # [B] int64, steps of the episodes
    obs: Obs
    next_obs: Obs
    final: Tensor  # [B, *S], the states that the step led to
    reward: Tensor
    discount: Tensor
    last: Tensor
    streams: dict[str, Tensor]


class VectorEnv(Protocol):
    """B copies of one environment. Only an adapter knows the backend and how it resets."""

    num_envs: int
    obs_space: gym.Space
    action_space: gym.Space  # a Box action space is canonical: bounded coordinates run over [-1, 1]

    @property
    def ungrouped(self) -> str:
        """Why it can't start a group of copies in one state; "" where it can."""

    def reset(self, seed: int | None = None, group: int = 1) -> Obs:
        """Start B new episodes.

        Args:
            seed: decides all that is random from here on; None: go on with the generators as they are.
            group: so many copies in a row get the same start state. More than 1 needs a seed, and `ungrouped` to be "".

        Returns:
            The observations [B, *O].
        """

    def step(self, action: Tensor) -> Step:
        """Take one step in every copy with the actions [B, *A]."""

    def snapshot(self) -> dict[str, Any] | None:
        """Return the complete state as tensors and plain values; None where the backend can't give it."""

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot, so that what follows is what would have followed."""

    def close(self) -> None:
        """Free processes and windows."""


class MovableEnv(VectorEnv, Protocol):
    """A `VectorEnv` whose step is a function of tensors, but for the beginning of new episodes."""

    state: Tensor  # [B, *S]
    t: Tensor  # [B] int64, steps of the open episodes
    steady: bool  # whether a step is the same operations whatever happens, the beginning of new episodes among them

    def move(self, state: Tensor, t: Tensor, action: Tensor) -> Moved:
        """Take one step from `state` and `t` with the actions [B, *A], and change nothing in the environment."""

    def settle(self, moved: Moved) -> Step:
        """Go on from a step that `move` took: begin new episodes where one ended."""


class ChangeableEnv(VectorEnv, Protocol):
    """A `VectorEnv` whose copies can be made anew with other arguments."""

    @property
    def unchangeable(self) -> str:
        """Why `change` can't be called; "" where it can."""

    def change(self, arguments: Mapping[str, Any]) -> None:
        """Have each copy's next episode begin in an environment with other arguments.

        Args:
            arguments: they take the place of those of the config with the same names; the others stay.
        """


def map_obs(function: Callable[..., Any], obs: Obs, *others: Obs) -> Obs:
    """Apply `function` to a tensor, or to every tensor of a dict (and its counterparts in `others`)."""
    if isinstance(obs, dict):
        return {key: function(obs[key], *(other[key] for other in others)) for key in obs}
    return function(obs, *others)


def action_mask(obs: Obs) -> Tensor | None:
    """Return which discrete actions observations [..., *O] allow, [..., A], 0 where not; None where they don't say."""
    if isinstance(obs, Tensor):  # a tensor takes its time to say that it has no such attribute
        return None
    return obs.get("action_mask") if isinstance(obs, dict) else getattr(obs, "action_mask", None)


def fresh(batch: Transition) -> Tensor | None:
    """Return which rows of a batch no update has seen before, [T, B]; None: all of them."""
    return batch.extras.get("fresh")


def report_errors(batch: Transition, error: Tensor) -> None:
    """Report how wrong each row was, |δ| [M], to the replay that offered the batch and samples its rows by that."""
    batch.extras["priority"].copy_(error)


def map_transition(function: Callable[[Tensor], Tensor], transition: Transition) -> Transition:
    """Apply `function` to every tensor of a transition."""
    return Transition(*(map_obs(function, field) for field in transition))


def rows(transition: Transition, index: Tensor) -> Transition:
    """Return the rows at `index` [M] of a flat transition [N, ...]: [M, ...]."""
    return map_transition(lambda x: x.index_select(0, index), transition)


def blocks(space: gym.Space) -> list[int]:
    """Return the sizes of the one-hot blocks that one agent's action has in a joint one; [] if it is numbers."""
    if isinstance(space, gym.spaces.Discrete):
        return [int(space.n)]
    return [int(n) for n in space.nvec.flatten()] if isinstance(space, gym.spaces.MultiDiscrete) else []


def width(space: gym.Space) -> int:
    """Return how many numbers of a joint action are one agent's; for a Dict, all agents'."""
    if isinstance(space, gym.spaces.Dict):
        return sum(width(part) for part in space.values())
    return sum(blocks(space)) or math.prod(space.shape or ())


def to_blocks(action: Tensor, space: gym.Space) -> Tensor:
    """Turn one agent's action [B, *A] into its part of a joint one, [B, width]."""
    if not (sizes := blocks(space)):
        return action.flatten(1).float()
    columns = action.reshape(len(action), -1).unbind(-1)
    return torch.cat([F.one_hot(x, n).float() for x, n in zip(columns, sizes, strict=True)], -1)


def from_blocks(part: Tensor, space: gym.Space) -> Tensor:
    """Turn an agent's part of a joint action [B, width] back into its action [B, *A].

    A block that is not one-hot is the choice where it is largest.
    """
    if not (sizes := blocks(space)):
        return part.unflatten(-1, space.shape or ())
    columns = [x.argmax(-1) for x in part.split(sizes, -1)]
    return columns[0] if isinstance(space, gym.spaces.Discrete) else torch.stack(columns, -1)


def flatten_time(transition: Transition) -> Transition:
    """Flatten a rollout [T, B, ...] to rows [T·B, ...]."""
    return map_transition(lambda x: x.flatten(0, 1), transition)


def columns(transition: Transition, index: Tensor) -> Transition:
    """Return the columns at `index` [M] of a rollout [T, B, ...]: [T, M, ...]."""
    return map_transition(lambda x: x.index_select(1, index), transition)


def time_step(transition: Transition, t: int) -> Transition:
    """Return step t of a rollout [T, B, ...]: [1, B, ...]."""
    return map_transition(lambda x: x[t : t + 1], transition)


def sequences(transition: Transition, length: int) -> Transition:
    """Cut the columns of a rollout [T, B, ...] into pieces: [length, (T // length)·B, ...].

    The rows that are left over at a column's end are dropped.
    """

    def cut(x: Tensor) -> Tensor:
        pieces = x.shape[0] // length
        return x[: pieces * length].unflatten(0, (pieces, length)).transpose(0, 1).flatten(1, 2)

    return map_transition(cut, transition)


def mask_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of x over valid rows; both [...]."""
    return mean_over(valid, x.dtype)(x)


def mean_over(valid: Tensor, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    """Return the function that `mask_mean` is with this mask [...], for several means over the same rows."""
    weight = valid.to(dtype)
    n = weight.sum().clamp(min=1.0)
    return lambda x: torch.sum(x * weight) / n


def loss_rows(args: Sequence[Any], like: Tensor) -> Tensor:
    """Count the rows n that a loss is a mean of, as its arguments say.

    These are the valid rows of the first `Transition`, or else the true entries of a mask that comes last. A loss with
    neither counts as one row, wherever it is computed.

    Args:
        args: the loss's arguments.
        like: a tensor on the device of the result.

    Returns:
        n, a 0-dimensional tensor.
    """
    for x in args:
        if isinstance(x, Transition):
            return x.valid.sum()
    mask = args[-1] if args else None
    return mask.sum() if isinstance(mask, Tensor) and mask.dtype is torch.bool else like.new_ones(())


def mean_over_ranks(x: Tensor, valid: Tensor) -> Tensor:
    """Return `mask_mean` over the rows of all processes that learn together, without a gradient; both [...]."""
    return ranks.mean(valid.sum(), mask_mean(x.detach(), valid))


def pad(rollout: Transition, length: int) -> Transition:
    """Pad a rollout [T, B, ...] with rows of zeros, which are not valid, to [length, B, ...] if it is shorter."""
    missing = length - rollout.reward.shape[0]
    if missing <= 0:
        return rollout
    return map_transition(lambda x: torch.cat([x, x.new_zeros((missing, *x.shape[1:]))]), rollout)
