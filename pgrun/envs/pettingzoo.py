"""Adapter to PettingZoo's parallel environments: several agents that act at once, in copies in this process.

It has two forms. `Joint`: a copy is one environment with observations and rewards by agent, for algorithms that learn
several agents together. `Rows`: every agent of every copy is an environment of its own, for algorithms that learn one
policy, which the agents then share.

Shapes: B copies, N agents, *O and *A one agent's observation and action, A the numbers of a joint action.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pgrun.config.ranges import Count
from pgrun.data.types import Obs, Step, from_blocks, map_obs, width
from pgrun.envs.agent_copies import Parallel
from pgrun.envs.masks import check_space
from pgrun.errors import UserError

spaces = gym.spaces


def make_parallel(
    *,
    id: str,
    num_envs: Count,
    agents: Literal["rows", "joint"],
    agent_index: bool,
    max_episode_steps: Count | None,
    kwargs: Mapping[str, Any],
    seed: int,
) -> Parallel:
    """Make B copies of a parallel environment.

    Args:
        id: the module that has its parallel_env.
        num_envs: B, copies side by side.
        agents: rows: each agent is an environment of its own; joint: one environment of all of them.
        agent_index: agents=rows: append each agent's number to what it sees, as one-hot.
        max_episode_steps: truncate episodes here; null: the environment's own limit.
        kwargs: arguments of the environment itself.
        seed: of the episodes' seeds, until they are reset with one.

    Raises:
        UserError: an environment or a form that can't be had, or a package that is missing.
    """
    if agents not in ("joint", "rows"):
        raise UserError(f"agents={agents} is not known; choose joint or rows")
    factory, given = find(id), dict(kwargs)

    def copy() -> Any:
        try:
            return factory(**given)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise UserError(f"env.kwargs: {id} takes no such argument ({error})") from error

    if max_episode_steps is not None and "max_cycles" not in given:
        given["max_cycles"] = max_episode_steps  # many PettingZoo environments call it so
        try:
            factory(**given).close()
        except TypeError:
            del given["max_cycles"]
    common: dict[str, Any] = {"name": id, "num_envs": num_envs, "limit": max_episode_steps, "seed": seed}
    return Joint(copy, **common) if agents == "joint" else Rows(copy, agent_index=agent_index, **common)


def find(id: str) -> Callable[..., Any]:
    """Find the function that makes an environment, named `module` (its `parallel_env`) or `module:callable`."""
    module, _, name = id.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name or "parallel_env", None)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if package in ("pettingzoo", "mpe2") and importlib.util.find_spec(package) is None:
            raise UserError(f"{id} needs a package that is not installed: pip install 'pgrun[pettingzoo]'") from error
        if error.name is not None and not f"{module}.".startswith(f"{error.name}."):
            raise UserError(f"{id} needs a package that is not installed: {error.name}") from error
        raise UserError(f"env.id={id}: there is no module {error.name}; {NAMES}") from error
    except ImportError as error:
        raise UserError(f"env.id={id}: {str(error).splitlines()[0]}") from error
    if not callable(factory):
        raise UserError(f"env.id={id}: {module} has no {name or 'parallel_env'}; {NAMES}")
    return factory


NAMES = "name a module with a parallel_env, such as mpe2.simple_spread_v3, or module:callable of yours"


class Joint(Parallel):
    """Copies as environments: obs {agent: [B, *O]}, action [B, A], reward and discount [B, N].

    An agent that is done before the others sees zeros, is paid nothing and has discount 0 until the episode ends. The
    mean over agents is logged as `return`, and each agent's own as `return_<agent>`.
    """

    def __init__(self, make: Callable[[], Any], **common: Any) -> None:
        super().__init__(make, **common)
        self.num_envs = len(self.copies)
        for agent, (space, _) in self.observations.items():
            if isinstance(space, spaces.Dict):
                raise UserError(
                    f"agents=joint reads one vector an agent, but {agent} of {self.name} sees a Dict: use agents=rows"
                )
        self.obs_space = spaces.Dict({agent: space for agent, (space, _) in self.observations.items()})
        self.action_space = spaces.Dict({agent: space for agent, (space, _) in self.actions.items()})
        self.widths = [width(space) for space in self.action_space.values()]
        self._all_valid = torch.ones(self.num_envs, dtype=torch.bool)

    def reset(self, seed: int | None = None, group: int = 1) -> Obs:
        """Start new episodes; see `VectorEnv.reset`."""
        self.begin_all(seed)
        return self.now()

    def now(self) -> Obs:
        """Return the observations to act on."""
        return self.join([self.tensors(agent, self.shown[agent]) for agent in self.agents])

    def join(self, by_agent: list[Obs]) -> Obs:
        """Name the agents' observations; see `Parallel.join`."""
        return dict(zip(self.agents, by_agent, strict=True))

    def part(self, action: Tensor) -> Sequence[Tensor]:
        """Take a joint action [B, A] apart; see `Parallel.part`."""
        pairs = zip(action.split(self.widths, -1), self.action_space.values(), strict=True)
        return [from_blocks(part, space) for part, space in pairs]

    def step(self, action: Tensor) -> Step:
        """Take one step in every copy; see `VectorEnv.step`."""
        outcome = self.advance(self.part(action))
        dead = ~outcome.there | outcome.terminated
        next_obs = {}
        for n, agent in enumerate(self.agents):  # as the next row shows it: zeros for agents that are done
            after = [None if gone else x for x, gone in zip(outcome.after[agent], dead[:, n], strict=True)]
            next_obs[agent] = self.tensors(agent, after)
        same = not outcome.over.any() and not (outcome.ended & ~outcome.terminated).any()
        reward = torch.from_numpy(outcome.reward)
        names = [f"return_{agent}" for agent in self.agents]
        return Step(
            obs=next_obs if same else self.now(),
            next_obs=next_obs,
            reward=reward,
            discount=torch.from_numpy((~dead).astype(np.float32)),
            last=torch.from_numpy(outcome.over),
            valid=self._all_valid,
            streams={"return": reward.mean(-1), **dict(zip(names, reward.unbind(-1), strict=True))},
        )


class Rows(Parallel):
    """Agents as environments: every agent of every copy is one, B·N rows, copy after copy.

    An agent that is done before the others has filler rows until its copy begins anew.

    Args:
        agent_index: append the agent's number to what it sees, as one-hot, so that one policy can tell them apart.
    """

    shared = True

    def __init__(self, make: Callable[[], Any], *, agent_index: bool, **common: Any) -> None:
        super().__init__(make, **common)
        n = len(self.agents)
        self.num_envs, self.agent_index = len(self.copies) * n, agent_index
        for kind, by_agent in (("observations", self.given), ("actions", self.taken)):
            first, *others = by_agent.items()
            for agent, space in others:
                if space != first[1]:
                    raise UserError(
                        f"agents=rows is one policy for all agents, but {kind} of {self.name} differ: {first[0]} has "
                        f"{_shown(first[1])}, {agent} has {_shown(space)}; use algo=maddpg or iddpg, with agents=joint"
                    )
        self.obs_space, self.action_space = (first_of(x)[0] for x in (self.observations, self.actions))
        check_space(first_of(self.given), first_of(self.taken), f"what agents of {self.name} see")
        self.one_hot = int(self.obs_space.n) if agent_index and isinstance(self.obs_space, spaces.Discrete) else 0
        if self.one_hot:
            self.obs_space = spaces.Box(0.0, 1.0, (self.one_hot,), np.float32)
        if agent_index:
            if not isinstance(self.obs_space, spaces.Box) or len(self.obs_space.shape) != 1:
                raise UserError(f"env.agent_index=true appends to vectors, but agents of {self.name} see no vector")
            low, high = (
                np.concatenate([x, np.full(n, y)]) for x, y in zip(_bounds(self.obs_space), (0, 1), strict=True)
            )
            self.obs_space = spaces.Box(np.float32(low), np.float32(high), dtype=np.float32)
            self.index = torch.eye(n).repeat(len(self.copies), 1)

    def reset(self, seed: int | None = None, group: int = 1) -> Obs:
        """Start new episodes; see `VectorEnv.reset`."""
        self.begin_all(seed)
        return self.rows(self.shown)

    def rows(self, seen: dict[str, list[Any]]) -> Obs:
        """Return the observations of all agents, [B·N, *O]."""
        return self.join([self.tensors(agent, seen[agent]) for agent in self.agents])

    def join(self, by_agent: list[Obs]) -> Obs:
        """Make rows of the agents' observations, copy after copy; see `Parallel.join`."""
        first, *others = by_agent
        obs = map_obs(lambda *x: torch.stack(x, 1).flatten(0, 1), first, *others)
        if self.one_hot:
            obs = F.one_hot(obs, self.one_hot)
        if not self.agent_index:
            return obs
        rows, n = obs.shape[0], len(self.agents)
        own = isinstance(rows, int) and rows == len(self.index)  # in a graph the number of rows is a symbol
        return torch.cat([obs, self.index if own else torch.eye(n).repeat(rows // n, 1)], -1)

    def part(self, action: Tensor) -> Sequence[Tensor]:
        """Take rows of actions apart by agent; see `Parallel.part`."""
        return action.unflatten(0, (-1, len(self.agents))).unbind(1)

    def step(self, action: Tensor) -> Step:
        """Take one step in every copy; see `VectorEnv.step`."""
        outcome = self.advance(self.part(action))
        next_obs = self.rows(outcome.after)
        anew = outcome.ended.any() or outcome.over.any()
        return Step(
            obs=self.rows(self.shown) if anew else next_obs,
            next_obs=next_obs,
            reward=torch.from_numpy(outcome.reward).flatten(),
            discount=torch.from_numpy(1.0 - outcome.terminated.astype(np.float32)).flatten(),
            last=torch.from_numpy(outcome.ended).flatten(),
            valid=torch.from_numpy(outcome.there).flatten(),
        )


def first_of(by_agent: Mapping[str, Any]) -> Any:
    """Return the first agent's entry."""
    return next(iter(by_agent.values()))


def _bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    return space.low, space.high


def _shown(space: gym.Space) -> str:
    """Describe a space in a few words."""
    return f"{type(space).__name__}{space.shape}" if isinstance(space, spaces.Box) else str(space)
