"""Environments that step B copies as one batch of tensors.

A `World` is the pure functions of a state; a `TensorEnv` keeps the state of its B copies.

Shapes: B copies, n of them that begin anew, *S one state, *O one observation, *A one action.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.config.ranges import Count
from pgrun.data.types import Moved, Obs, Step, map_obs
from pgrun.envs.codecs import HUGE, action_codec
from pgrun.envs.gymnasium import sub_seeds
from pgrun.envs.outside import Outside, world_observations
from pgrun.envs.world_answers import check_methods, initial_faults, name_of, observe_faults, refuse, step_faults
from pgrun.errors import UserError, failing

spaces = gym.spaces


class Outcome(NamedTuple):
    """The outcome of one step of a world."""

    state: Tensor  # [B, *S]
    reward: Tensor  # [B]
    terminated: Tensor  # [B] bool
    streams: dict[str, Tensor] = {}  # noqa: RUF012 (never written to)  other rewards [B], as in `Step`


class World:
    """A Markov decision process as functions of batched tensors. All randomness is drawn from `rng`."""

    obs_space: gym.Space
    action_space: gym.Space
    anywhere = False  # whether it can live on a GPU: its functions make tensors where `rng`, or what they get, is
    render_fps = 30  # frames a second of a film, for a world that has a `render`

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw n start states [n, *S]."""
        raise NotImplementedError

    def observe(self, state: Tensor) -> Obs:
        """Return the observations [B, *O] of states [B, *S], float32."""
        raise NotImplementedError

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Take one step, without writing to the state.

        Args:
            state: [B, *S].
            action: [B, *A], within the action space.
            rng: the source of all randomness.
        """
        raise NotImplementedError

    def render(self, state: Tensor) -> Any:
        """Draw one state [*S] as [H, W, 3] uint8, if the world can be drawn: `pgrun play` shows it."""
        raise NotImplementedError


class TensorEnv:
    """B copies of a world as a `VectorEnv`; an ended episode's copy begins anew in the same step.

    Args:
        world: its functions.
        num_envs: B, copies side by side.
        max_episode_steps: truncate episodes here; None never does.
        seed: of its own generator, until `reset` is given one.
        steady: draw start states for all copies in each step, so that each step is the same operations.

    Raises:
        UserError: the world lacks a method, or returns from one what can't be taken: of `initial` here, of `observe`
            and `step` when they are called first.
    """

    ungrouped = ""  # a state can be had in any number of copies
    one_object = True

    def __init__(
        self, *, world: World, num_envs: Count, max_episode_steps: Count | None, seed: int, steady: bool = False
    ) -> None:
        self.world, self.num_envs, self.steady = world, num_envs, steady
        self.name, self.seed, self.device = name_of(world), seed, torch.device("cpu")
        check_methods(world, World)
        self.seen = self.stepped = False  # whether what it first returned was found to be right
        self.limit = math.inf if max_episode_steps is None else max_episode_steps
        self.obs_space = world.obs_space
        self.action_space, self._action = canonical(world.action_space)
        self.taken = world.action_space  # the world's own
        self.rng = torch.Generator()
        self._seed(seed)
        with failing(self.name, "initial"):
            self.state = world.initial(num_envs, self.rng)
            refuse(initial_faults(self.state, num_envs), world)
        self.t = torch.zeros(num_envs, dtype=torch.int64)  # steps of the open episodes
        self.final: tuple[Tensor, Tensor] | None = None  # whose episode ended just now [B], in which states [B, *S]
        self._all_valid = torch.ones(num_envs, dtype=torch.bool)

    def place(self, device: torch.device) -> None:
        """Move the copies to a device, with a generator of its own there, if the world can live there.

        Its episodes begin anew, as other random numbers are drawn there.
        """
        if not self.world.anywhere or device.type == self.device.type:
            return
        for name, x in vars(self.world).items():
            if isinstance(x, Tensor):
                setattr(self.world, name, x.to(device))
        self.device, self.rng = device, torch.Generator(device)
        _, self._action = canonical(self.taken, device)
        self._all_valid, self.t = self._all_valid.to(device), self.t.to(device)
        self.reset(self.seed)

    def _seed(self, seed: int) -> None:
        self.rng.manual_seed(sub_seeds(seed, 1)[0])  # not the same numbers as the policy draws from this seed

    def reset(self, seed: int | None = None, group: int = 1) -> Obs:
        """Start new episodes; see `VectorEnv.reset`."""
        if seed is not None:
            self._seed(seed)
        self.state = self.world.initial(self.num_envs // group, self.rng).repeat_interleave(group, 0)
        self.t.zero_()
        self.final = None
        return self.observe(self.state)

    def observe(self, state: Tensor) -> Obs:
        """Return a copy of the world's observations.

        A world may return its state itself, or a tensor that it writes to again.
        """
        with failing(self.name, "observe"):
            obs = self.world.observe(state)
            if not self.seen:
                refuse(observe_faults(obs, self.obs_space, len(state)), self.world)
                self.seen = True
        return map_obs(Tensor.clone, obs)

    def step(self, action: Tensor) -> Step:
        """Take one step in every copy; see `VectorEnv.step`."""
        return self.settle(self.move(self.state, self.t, action.to(self.device)))

    def move(self, state: Tensor, t: Tensor, action: Tensor) -> Moved:
        """Take one step, and change nothing here; see `MovableEnv.move`."""
        with failing(self.name, "step"):
            outcome = self.world.step(state, self._action(action), self.rng)
            if not self.stepped:
                refuse(step_faults(outcome, state), self.world)
                self.stepped = True
            after, reward, terminated, streams = outcome
        t = t + 1
        last = terminated | (t >= self.limit)
        state, next_obs = after, self.observe(after)
        obs = next_obs
        if self.steady:
            with failing(self.name, "initial"):
                fresh = self.world.initial(self.num_envs, self.rng)
            state = torch.where(last.reshape(-1, *[1] * (after.dim() - 1)), fresh, after)
            t, obs = t.masked_fill(last, 0), self.observe(state)
        return Moved(
            state=state,
            t=t,
            obs=obs,
            next_obs=next_obs,
            final=after,
            reward=reward.to(torch.float32, copy=True),
            discount=(~terminated).float(),
            last=last,
            streams={name: x.clone() for name, x in streams.items()},
        )

    def settle(self, moved: Moved) -> Step:
        """Go on from a step, and begin anew where an episode ended; see `MovableEnv.settle`."""
        state, t, observed, last = moved.state, moved.t, moved.obs, moved.last
        self.final = last, moved.final
        if not self.steady and (ended := int(last.sum())):
            state = state.clone()
            with failing(self.name, "initial"):
                state[last] = self.world.initial(ended, self.rng)
            t = t.masked_fill(last, 0)
            observed = self.observe(state)
        self.state, self.t = state, t
        return Step(
            obs=observed,
            next_obs=moved.next_obs,
            reward=moved.reward,
            discount=moved.discount,
            last=last,
            valid=self._all_valid,
            streams=moved.streams,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the states and the generator's; see `VectorEnv.snapshot`."""
        return {"state": self.state.clone(), "t": self.t.clone(), "rng": self.rng.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot; see `VectorEnv.restore`. A generator of another device can't go on here."""
        self.state, self.t = (state[name].to(self.device, copy=True) for name in ("state", "t"))
        if state["rng"].shape == self.rng.get_state().shape:
            self.rng.set_state(state["rng"])

    def outside(self) -> Outside:
        """Return how the world's own observations and actions become the policy's; see `Outside`."""
        world, name = self.world, type(self.world).__name__
        return Outside(
            world.obs_space, world.action_space, world_observations, lambda a: self._action(a).numpy(), name=name
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """The world's render modes and frames a second, as Gymnasium has them."""
        drawn = type(self.world).render is not World.render
        return {"render_modes": ["rgb_array"] if drawn else [], "render_fps": self.world.render_fps}

    def frames(self, row: int) -> list[Any]:
        """Return a copy's frames since the last step; see `pgrun.envs.frames`."""
        states = [self.state[row]]
        if self.final is not None and self.final[0][row]:
            states.insert(0, self.final[1][row])
        with failing(self.name, "render"):
            return [self.world.render(state) for state in states]

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


def canonical(space: gym.Space, device: torch.device | None = None) -> tuple[gym.Space, Callable[[Tensor], Tensor]]:
    """Return the action space that policies see, and a function from a batch of their actions to the world's.

    It does on tensors of a device what `action_codec` does on arrays, for Box and for Discrete from 0.
    """
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return space, lambda a: a
    if not isinstance(space, spaces.Box):
        raise UserError(f"actions in {space} can't be taken by a world of tensors: use Discrete or Box")
    policys, _ = action_codec(space)
    bounded = (np.abs(space.low) < HUGE) & (np.abs(space.high) < HUGE)
    low, high = (torch.as_tensor(np.where(bounded, x, s)) for x, s in ((space.low, -1.0), (space.high, 1.0)))
    half, middle = ((high - low) / 2.0).float().to(device), ((high + low) / 2.0).float().to(device)
    edge = torch.as_tensor(np.where(bounded, 1.0, np.inf)).float().to(device)
    shape = space.shape

    def rescale(action: Tensor) -> Tensor:
        return middle + half * torch.clamp(action.reshape(-1, *shape), -edge, edge)

    return policys, rescale
