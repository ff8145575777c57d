"""An environment as its user makes it: how its own observations become a policy's, and a policy's actions its own.

Adapters make an `Outside` of what they know, so that a trained policy can act where no adapter is.

Shapes: B copies, *O and *A one observation and action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from pgrun.data.types import Obs, map_obs
from pgrun.envs.checked import ALONE
from pgrun.envs.masks import KEY, MaskReader
from pgrun.envs.reading import reader, shown
from pgrun.errors import UserError

spaces = gym.spaces


class Question(NamedTuple):
    """Observations as a policy sees them, and how they came."""

    obs: Obs  # [B, *O], or [B·N, *O] where N agents share the policy
    copies: int  # B
    single: bool  # one observation without an axis of copies: B is 1
    device: torch.device | None  # of the tensors that came; None: arrays came
    agents: tuple[str, ...] = ()  # who is there, of several agents


class Outside:
    """The environment's own spaces, and the way between them and the policy's.

    Args:
        observations: the environment's own observation space.
        actions: its own action space.
        observe: turns a batch of its observations into tensors; see `observation_codec`.
        act: turns a batch of a policy's actions into its own; see `action_codec`.
        name: what to call it.
        mask: reads the masks of actions; None: there are none, or the observations are read with them.
        inside: whether masks are in the observations, else they are given beside them.
    """

    rows = 1  # of the policy, for each copy

    def __init__(
        self,
        observations: gym.Space,
        actions: gym.Space,
        observe: Callable[[Any], Obs],
        act: Callable[[Tensor], Any],
        *,
        name: str,
        mask: MaskReader | None = None,
        inside: bool = False,
    ) -> None:
        self.observations, self.actions, self.observe, self.act = observations, actions, observe, act
        self.name, self.mask, self.inside = f"the observation of {name}", mask, inside and mask is not None
        seen = observations
        if self.inside and isinstance(observations, spaces.Dict):
            seen = spaces.Dict({key: part for key, part in observations.items() if key != KEY})
        self.batches = Batches(seen, self.name)

    def ask(self, obs: Any, mask: Any = None) -> Question:
        """Read one observation, or a batch of them, as the environment gives it.

        Args:
            obs: in the environment's own space, or with one more axis in front.
            mask: the actions that are allowed, where the environment says it beside its observations.

        Raises:
            UserError: it is not in the space, or a mask is missing, or there is none to give.
        """
        obs, device = as_arrays(obs)
        copies, arrays = self.batches.read(obs)
        if self.mask is None and mask is not None:
            raise UserError(f"mask: {self.name} had no mask of actions beside it when the policy learnt")
        if self.mask is not None:
            if self.inside and mask is not None:
                raise UserError(f"mask: {self.name} holds it already, as {KEY!r}")
            if not self.inside and mask is None:
                raise UserError(f"the policy obeys masks: give it the one of this step, as in mask=info[{KEY!r}]")
            legal = self.masks(obs.get(KEY) if self.inside else as_arrays(mask)[0], copies)
            arrays = {**(arrays if isinstance(arrays, dict) else {ALONE: arrays}), KEY: legal}
        return Question(self.observe(arrays), copies or 1, copies is None, device)

    def masks(self, mask: Any, copies: int | None) -> np.ndarray:
        """Read the masks of all copies as [B, A]; `copies` is None where there is one observation alone."""
        assert self.mask is not None
        each = [mask] if copies is None else mask
        if copies is not None and (not hasattr(each, "__len__") or len(each) != copies):
            raise UserError(f"mask is {shown(mask)}, but there are {copies} observations: give one mask for each")
        return np.stack([self.mask(one, False) for one in each])

    def answer(self, action: Tensor, question: Question) -> Any:
        """Return the actions [B, *A] in the environment's own units, in the form in which the question came."""
        return returned(self.act(action), question)


class AgentsOutside:
    """Several agents' own spaces, and the way between them and the policy's: dicts by agent, in and out.

    Args:
        observations: by agent, the environment's own observation spaces.
        actions: by agent, its own action spaces.
        codecs: by agent, from a batch of its observations to tensors, and from a policy's actions to its own.
        absent: by agent, what is shown to the policy of an agent that takes no part.
        join: makes the policy's observations of those of all agents, in their order.
        part: makes actions by agent, in their order, of the policy's.
        name: what to call the environment.
        shared: whether each agent is a row of its own for the policy.
    """

    def __init__(
        self,
        observations: spaces.Dict,
        actions: spaces.Dict,
        codecs: Mapping[str, tuple[Callable[[Any], Obs], Callable[[Tensor], Any]]],
        absent: Mapping[str, Any],
        join: Callable[[list[Obs]], Obs],
        part: Callable[[Tensor], Sequence[Tensor]],
        *,
        name: str,
        shared: bool,
    ) -> None:
        self.observations, self.actions, self.codecs, self.absent = observations, actions, codecs, absent
        self.join, self.part, self.name = join, part, name
        self.rows = len(actions) if shared else 1
        self.batches = {agent: Batches(space, f"what {agent} of {name} sees") for agent, space in observations.items()}

    def ask(self, obs: Any, mask: Any = None) -> Question:
        """Read what the agents see, {agent: observation}; who is not in it takes no part. See `Outside.ask`."""
        agents = ", ".join(self.batches)
        if not isinstance(obs, Mapping) or not obs or not obs.keys() <= self.batches.keys():
            given = f"a dict of {', '.join(map(str, obs)) or 'nothing'}" if isinstance(obs, Mapping) else shown(obs)
            raise UserError(f"what agents of {self.name} see is {given}; give a dict of {agents}, or of some of these")
        if mask is not None:
            raise UserError(f"mask: agents of {self.name} had none beside their observations when the policy learnt")
        read, device, copies = {}, None, set()
        for agent, seen in obs.items():
            seen, of_agent = as_arrays(seen)
            count, read[agent] = self.batches[agent].read(seen)
            device = device or of_agent
            copies.add(count)
        if len(copies) > 1:
            raise UserError(f"the agents of {self.name} are not of equally many copies: {agents} differ")
        count = copies.pop()
        for agent in self.batches.keys() - read.keys():
            nothing = as_batch(self.absent[agent])
            read[agent] = mapped(lambda x: np.repeat(x, count or 1, 0), nothing)
        tensors = [self.codecs[agent][0](read[agent]) for agent in self.batches]
        return Question(self.join(tensors), count or 1, count is None, device, tuple(obs))

    def answer(self, action: Tensor, question: Question) -> dict[str, Any]:
        """Return the actions {agent: action} of those who are there; see `Outside.answer`."""
        parts = dict(zip(self.batches, self.part(action), strict=True))
        return {agent: returned(self.codecs[agent][1](parts[agent]), question) for agent in question.agents}


class Batches:
    """Reads one observation or a batch of them, told apart by their shape, as arrays [B, *O].

    Args:
        space: of one observation.
        name: what to call it in a refusal.
    """

    def __init__(self, space: gym.Space, name: str) -> None:
        self.space, self.name = space, name
        self.readers: dict[int | None, Callable[[Any], Any]] = {None: reader(space, name)}

    def read(self, obs: Any) -> tuple[int | None, Any]:
        """Return B, None where it is one observation alone, and arrays [B, *O]."""
        copies = count(self.space, obs)
        if copies == 0:
            raise UserError(f"{self.name} is a batch of none")
        if copies not in self.readers:
            if len(self.readers) > 8:  # a batch whose size changes all the time
                self.readers = {None: self.readers[None]}
            self.readers[copies] = reader(batch_space(self.space, copies or 1), self.name)
        read = self.readers[copies](obs)
        return copies, as_batch(read) if copies is None else read


def count(space: gym.Space, obs: Any) -> int | None:
    """Count the observations of a batch; None where it is one alone, or neither of the two."""
    if isinstance(space, spaces.Dict):
        key, part = next(iter(space.items()))
        return count(part, obs[key]) if isinstance(obs, Mapping) and key in obs else None
    shape = getattr(obs, "shape", None)
    if shape is None:
        try:
            shape = np.shape(obs)
        except Exception:  # a ragged list, which the reader refuses
            return None
    due = space.shape or ()
    return int(shape[0]) if len(shape) == len(due) + 1 and tuple(shape[1:]) == tuple(due) else None


def as_arrays(value: Any) -> tuple[Any, torch.device | None]:
    """Replace tensors by arrays, in dicts too, and return a device that one was on; None without tensors."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy(), value.device
    if isinstance(value, Mapping):
        pairs = {key: as_arrays(part) for key, part in value.items()}
        return {key: x for key, (x, _) in pairs.items()}, next((on for _, on in pairs.values() if on is not None), None)
    return value, None


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to an array, or to each one of nested dicts."""
    return {key: mapped(function, part) for key, part in value.items()} if isinstance(value, dict) else function(value)


def as_batch(obs: Any) -> Any:
    """Put an axis of one copy in front of an observation's arrays."""
    return mapped(lambda x: np.asarray(x)[None], obs)


def returned(own: Any, question: Question) -> Any:
    """Return actions [B, *A], perhaps in tuples and dicts, as the question came: one or a batch, arrays or tensors."""
    if isinstance(own, dict):
        return {key: returned(part, question) for key, part in own.items()}
    if isinstance(own, tuple):
        return tuple(returned(part, question) for part in own)
    own = own[0] if question.single else own
    return own if question.device is None else torch.as_tensor(np.asarray(own)).to(question.device)


def world_observations(arrays: Any) -> Obs:
    """Return the observations of a world of tensors, which are the policy's own."""
    return map_obs(torch.from_numpy, arrays)
