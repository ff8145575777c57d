"""Acting, and the steps of a world of tensors, as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pgrun.collect.acting import ask
from pgrun.collect.compiled_steps import CompiledSteps, Streams, acting, one_step
from pgrun.collect.recorder import where_ended
from pgrun.data.policy import Policy
from pgrun.data.stepping import settled, stepped
from pgrun.data.types import Carry, MovableEnv, Obs, Step, Transition, VectorEnv, map_obs
from pgrun.errors import CantRecord
from pgrun.optim.captured import Captured
from pgrun.optim.cuda_graphs import Graphs
from pgrun.optim.gradient_step import GradientStep
from pgrun.optim.recording import mapped

log = logging.getLogger("pgrun")


class CapturedSteps(CompiledSteps):
    """Steps of acting and of the environments as graphs: of acting alone, where the environments are on the CPU.

    Args:
        env: the environments.
        graphs: makes the graphs.
    """

    later = True

    def __init__(self, env: VectorEnv, graphs: Graphs) -> None:
        super().__init__(env, False)
        self.able, self.graphs = True, graphs
        self.moves = hasattr(env, "move") and getattr(env, "device", None) == graphs.device
        self.one: Captured | None = None
        self.whole: Captured | None = None

    @property
    def seconds(self) -> float:
        """Seconds that capturing has taken."""
        return sum(x.seconds for x in (self.one, self.whole) if x is not None)

    def loops(self, length: int) -> bool:
        """Tell whether a rollout of so many steps can be one graph."""
        return self.able and self.moves and self.env.steady and length > 1

    def give_up(self, why: CantRecord) -> None:
        """Go on without graphs."""
        self.able = False
        log.info("graph=true: acting is not captured: %s", why)

    def __call__(self, policy: Policy, obs: Obs, carry: Carry) -> tuple[Tensor, Carry, dict[str, Tensor], Step]:
        """Act on observations [B, *O] and step; see `CompiledSteps`."""
        env = self.env
        if self.one is None:
            function = one_step(policy, env) if self.moves else acting(policy)
            self.one = self.captured(policy, function)
        try:
            if self.moves:
                action, after, extras, moved = self.one(obs, carry, env.state, env.t)
                return action, after, extras, settled(env.settle(moved))
            action, after, extras = self.one(obs, carry)
            action, extras = mapped(lambda x: x.cpu(), (action, extras), Tensor)
        except CantRecord as why:
            self.give_up(why)
            action, after, extras = ask(policy, obs, carry, explore=True)
        return action, after, extras, stepped(env, action)

    def captured(self, policy: Policy, function: Callable[..., Any]) -> Captured:
        """Make a captured function of a policy and the environments."""
        return Captured(function, self.graphs, (policy, self.env) if self.moves else (policy,), (GradientStep,))

    def rollout(self, policy: Policy, obs: Obs, carry: Carry, length: int) -> tuple[Transition, Streams, Obs, Carry]:
        """Act and step so many times in steady environments; see `CompiledSteps.rollout`."""
        env = self.env
        if self.whole is None:
            self.whole = self.captured(policy, unrolled(policy, env, length))
        rollout, streams, (obs, carry, env.state, env.t) = self.whole(obs, carry, env.state, env.t)
        return rollout, streams, obs, carry


def unrolled(policy: Policy, env: MovableEnv, length: int) -> Callable[..., Any]:
    """Return a rollout as a function of tensors: the rollout, the streams, and what the next one begins with."""

    def rollout(obs: Obs, carry: Carry, state: Tensor, t: Tensor) -> tuple[Any, ...]:
        rows, streams = [], []
        for _ in range(length):
            action, after, extras = policy.act(obs, carry, True)
            moved = env.move(state, t, action)
            over = moved.last & (moved.discount.reshape(len(moved.last), -1) == 0).all(-1)
            next_obs = map_obs(lambda x: finite_there(x, over), moved.next_obs)  # noqa: B023
            valid = torch.ones_like(moved.last)
            rows.append(Transition(obs, action, moved.reward, moved.discount, next_obs, moved.last, valid, extras))
            streams.append(moved.streams)
            obs, carry = moved.obs, where_ended(after, moved.last, policy)
            state, t = moved.state, moved.t
        return Transition(*map(stacked, zip(*rows, strict=True))), stacked(streams), (obs, carry, state, t)

    return rollout


def stacked(steps: Any) -> Any:
    """Stack T tensors, or dicts of them."""
    return map_obs(lambda *parts: torch.stack(parts), steps[0], *steps[1:])


def finite_there(x: Tensor, over: Tensor) -> Tensor:
    """Put 0 for numbers that aren't finite where an episode is over, without a look at the numbers."""
    if not x.is_floating_point():
        return x
    rows = over.reshape(over.shape + (1,) * (x.dim() - over.dim()))
    return torch.where(rows & ~torch.isfinite(x), torch.zeros_like(x), x)
