"""Acting and the steps of a world of tensors as compiled functions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pgrun.collect.recorder import where_ended
from pgrun.compat.torch import compiles_loops
from pgrun.data.policy import Policy
from pgrun.data.stepping import finite_where, settled, stepped
from pgrun.data.types import Carry, MovableEnv, Obs, Step, Transition, VectorEnv, map_obs
from pgrun.errors import CantRecord
from pgrun.optim.compiled import Recorded, RecordedLoop
from pgrun.optim.gradient_step import GradientStep
from pgrun.optim.recording import mapped, tensors

log = logging.getLogger("pgrun")

Streams = dict[str, Tensor]


class CompiledSteps:
    """Steps of acting, compiled; those of the environments, too, where they are a world of tensors.

    Args:
        env: the environments.
        wanted: whether to compile at all.
    """

    later = False  # whether statistics of a rollout wait until somebody reads them

    def __init__(self, env: VectorEnv, wanted: bool) -> None:
        self.env: MovableEnv = env  # type: ignore[assignment]
        self.able = wanted  # until a policy turns out to be no function of tensors
        self.moves = hasattr(env, "move")
        self.step: Recorded | None = None
        self.loop: RecordedLoop | None = None

    @property
    def seconds(self) -> float:
        """Seconds that compiling has taken."""
        return sum(x.seconds for x in (self.step, self.loop) if x is not None)

    def loops(self, length: int) -> bool:
        """Tell whether a rollout of so many steps can be one program."""
        return self.able and self.moves and self.env.steady and length > 1 and compiles_loops()

    def give_up(self, why: CantRecord) -> None:
        """Go on without compiling."""
        self.able = False
        log.info("acting isn't compiled: %s", why)

    def __call__(self, policy: Policy, obs: Obs, carry: Carry) -> tuple[Tensor, Carry, dict[str, Tensor], Step]:
        """Act on observations [B, *O] and step.

        Returns:
            Actions, carry and extras as `Policy.act` returns them, and the environments' answer.
        """
        env = self.env
        function = one_step(policy, env) if self.moves else acting(policy)
        given = (obs, carry, env.state, env.t) if self.moves else (obs, carry)
        if self.step is None:
            roots = (policy, env) if self.moves else (policy,)
            self.step = Recorded(function, roots, (GradientStep, Recorded))
        try:
            done = self.step(*given)
        except CantRecord as why:
            self.give_up(why)
            done = function(*given)
        action, after, extras, *moved = done
        return action, after, extras, settled(env.settle(*moved)) if self.moves else stepped(env, action)

    def rollout(self, policy: Policy, obs: Obs, carry: Carry, length: int) -> tuple[Transition, Streams, Obs, Carry]:
        """Act and step so many times in steady environments.

        Returns:
            The rollout [T, B, ...], the rewards that are only logged [T, B], the observations to act on next [B, *O],
            and the carry.

        Raises:
            CantRecord: the policy decides by numbers.
        """
        env = self.env
        if self.loop is None:
            self.loop = RecordedLoop(looped(policy, env), (policy, env), (GradientStep, Recorded))
        now = mapped(torch.clone, (obs, carry, env.state, env.t), Tensor)  # the program writes to it
        steps = (torch.zeros(length),)  # a row for each call
        obs_before, action, extras, reward, discount, next_obs, last, streams = self.loop(steps, *now)
        obs, carry, env.state, env.t = now
        over = last & (discount.reshape(*last.shape, -1) == 0).all(-1)
        rollout = Transition(
            *(obs_before, action, reward, discount, finite_where(next_obs, over), last, torch.ones_like(last), extras)
        )
        return rollout, streams, obs, carry


def acting(policy: Policy) -> Callable[..., Any]:
    """Return acting as a function of observations and carry."""
    return lambda obs, carry: policy.act(obs, carry, True)


def one_step(policy: Policy, env: MovableEnv) -> Callable[..., Any]:
    """Return a step of acting and of the environments as a function of tensors."""

    def step(obs: Obs, carry: Carry, state: Tensor, t: Tensor) -> tuple[Any, ...]:
        action, after, extras = policy.act(obs, carry, True)
        return action, after, extras, env.move(state, t, action)

    return step


def looped(policy: Policy, env: MovableEnv) -> Callable[..., Any]:
    """Make one step of acting and of the environments a function that writes what follows over what it is given."""

    def step(row: Any, obs: Obs, carry: Carry, state: Tensor, t: Tensor) -> tuple[Any, ...]:
        action, after, extras = policy.act(obs, carry, True)
        moved = env.move(state, t, action)
        kept = map_obs(torch.clone, obs), mapped(torch.clone, (action, extras), Tensor)
        follows = moved.obs, where_ended(after, moved.last, policy), moved.state, moved.t
        for before, x in zip(tensors((obs, carry, state, t)), tensors(follows), strict=True):
            before.copy_(x)
        return kept[0], *kept[1], moved.reward, moved.discount, moved.next_obs, moved.last, moved.streams

    return step
