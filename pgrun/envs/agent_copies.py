"""Copies of an environment with several agents, by PettingZoo's parallel API, in this process.

Shapes: B copies, N agents, *O and *A one agent's observation and action.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector.utils import concatenate, create_empty_array, iterate
from torch import Tensor

from pgrun.data.plain import decode, encode
from pgrun.data.types import Obs
from pgrun.envs.codecs import action_codec, observation_codec
from pgrun.envs.gymnasium import sub_seeds
from pgrun.envs.reading import reader
from pgrun.errors import UserError, failing, told

spaces = gym.spaces
log = logging.getLogger("pgrun")


class Outcome(NamedTuple):
    """The outcome of one step of all copies."""

    after: dict[str, list[Any]]  # by agent, the true successor in each copy; None for who took no part
    reward: np.ndarray  # [B, N] float32
    terminated: np.ndarray  # [B, N] bool
    ended: np.ndarray  # [B, N] bool  terminated or truncated, now
    there: np.ndarray  # [B, N] bool  who took part
    over: np.ndarray  # [B] bool  nobody is left, and the next episode has begun


class Parallel:
    """B copies of a parallel environment, stepped one after the other; an ended one begins anew in the same step.

    Every episode begins from a seed of its own. A copy's state is that seed and the actions since: a snapshot holds
    these, and `restore` plays the open episodes again.

    Args:
        make: makes one copy.
        name: what to call it.
        num_envs: B.
        limit: truncate episodes after so many steps; None: the environment's own limit.
        seed: of the episodes' seeds, until `reset` is given one.
    """

    ungrouped = "several agents share each copy"
    why_stateless = ""

    def __init__(self, make: Callable[[], Any], *, name: str, num_envs: int, limit: int | None, seed: int) -> None:
        self.copies, self.name = [make() for _ in range(num_envs)], name
        self.limit = math.inf if limit is None else limit
        first = self.copies[0]
        if not getattr(first, "possible_agents", None):
            raise UserError(f"env.id={name} does not say which agents there can be: it has no possible_agents")
        self.given = spaces.Dict({agent: first.observation_space(agent) for agent in first.possible_agents})
        self.taken = spaces.Dict({agent: first.action_space(agent) for agent in first.possible_agents})
        self.agents = list(self.taken)  # N, in the order that Dict spaces have
        self.observations = {agent: observation_codec(space) for agent, space in self.given.items()}
        self.readers = {agent: reader(space, f"what {agent} of {name} sees") for agent, space in self.given.items()}
        self.actions = {agent: action_codec(space) for agent, space in self.taken.items()}
        self.nothing = {
            agent: next(iter(iterate(space, create_empty_array(space, 1, np.zeros))))
            for agent, space in self.given.items()
        }
        self.rng = np.random.default_rng(sub_seeds(seed, 1))
        self.seeds = [0] * num_envs  # of the open episodes
        self.played: list[list[list[Any]]] = [[] for _ in self.copies]  # actions of open episodes by step and agent
        self.alive = np.zeros((num_envs, len(self.agents)), dtype=bool)
        self.shown: dict[str, list[Any]] = {agent: [None] * num_envs for agent in self.agents}  # to act on

    def begin_all(self, seed: int | None) -> None:
        """Begin new episodes in all copies."""
        if seed is not None:
            self.rng = np.random.default_rng(sub_seeds(seed, 1))
        for i in range(len(self.copies)):
            self.begin(i, self.next_seed())

    def next_seed(self) -> int:
        """Draw the next episode's seed."""
        return int(self.rng.integers(2**31))

    def begin(self, i: int, seed: int) -> None:
        """Begin a new episode in copy i."""
        env = self.copies[i]
        with failing(f"environment {i}", "reset"):
            seen = self.read(env.reset(seed=seed)[0])
        self.seeds[i], self.played[i] = seed, []
        self.look(i, seen, np.array([agent in env.agents for agent in self.agents]))

    def read(self, seen: Mapping[str, Any]) -> dict[str, Any]:
        """Copy the agents' observations, since the environment may overwrite its own arrays."""
        return {agent: self.readers[agent](x) for agent, x in seen.items() if x is not None}

    def look(self, i: int, seen: Mapping[str, Any], alive: np.ndarray) -> None:
        """Note what copy i shows, and who is alive [N]."""
        self.alive[i] = alive
        for agent, there in zip(self.agents, alive, strict=True):
            self.shown[agent][i] = seen.get(agent) if there else None

    def play(self, i: int, does: list[Any]) -> tuple[Mapping[str, Any], np.ndarray]:
        """Take one step in copy i with the agents' actions [N].

        Returns:
            The observations by agent, and [3, N]: rewards, terminations and ends.
        """
        env, alive, outcome = self.copies[i], self.alive[i].copy(), np.zeros((3, len(self.agents)))
        who = {agent: does[n] for n, agent in enumerate(self.agents) if alive[n]}
        with failing(f"environment {i}", "step"):
            given, reward, terminated, truncated, _ = env.step(who)
            seen = self.read(given)
        self.played[i].append(does)
        late = len(self.played[i]) >= self.limit
        for n, agent in enumerate(self.agents):
            if alive[n]:
                dead = terminated.get(agent, False)
                gone = agent not in env.agents
                outcome[:, n] = reward.get(agent, 0.0), dead, dead or truncated.get(agent, False) or late or gone
        ended = outcome[2] > 0
        self.look(i, seen, np.array([agent in env.agents for agent in self.agents]) & ~ended & (not late))
        return seen, outcome

    def advance(self, actions: Sequence[Tensor]) -> Outcome:
        """Step all copies with each agent's actions [B, *A]."""
        b, there = len(self.copies), self.alive.copy()
        after: dict[str, list[Any]] = {agent: [None] * b for agent in self.agents}
        outcomes = np.zeros((b, 3, len(self.agents)), dtype=np.float32)
        columns = [self.actions[agent][1](action) for agent, action in zip(self.agents, actions, strict=True)]
        for i, does in enumerate(zip(*columns, strict=True)):
            seen, outcomes[i] = self.play(i, list(does))
            for n, agent in enumerate(self.agents):
                after[agent][i] = seen.get(agent) if there[i, n] else None
        over = np.logical_not(self.alive.any(1))
        for copy in np.nonzero(over)[0]:
            self.begin(int(copy), self.next_seed())
        return Outcome(after, outcomes[:, 0], outcomes[:, 1] > 0, outcomes[:, 2] > 0, there, over)

    def tensors(self, agent: str, seen: list[Any]) -> Obs:
        """Return an agent's observations in all copies as tensors [B, *O], zeros where it takes no part."""
        space = self.given[agent]
        full, out = [self.nothing[agent] if x is None else x for x in seen], create_empty_array(space, len(seen))
        return self.observations[agent][1](concatenate(space, full, out))  # type: ignore[arg-type]

    def snapshot(self) -> dict[str, Any]:
        """Return the seeds and actions of the open episodes; see `VectorEnv.snapshot`."""
        n = range(len(self.agents))
        return {
            "rng": encode(self.rng),
            "seeds": list(self.seeds),
            "played": [[encode(np.stack([x[k] for x in acts])) for k in n] if acts else [] for acts in self.played],
            "alive": torch.from_numpy(self.alive.copy()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Play the open episodes again; see `VectorEnv.restore`."""
        for i, (seed, played) in enumerate(zip(state["seeds"], state["played"], strict=True)):
            self.begin(i, seed)
            for does in zip(*(decode(actions) for actions in played), strict=True):
                self.play(i, list(does))
        self.rng = decode(state["rng"])
        if not np.array_equal(self.alive, state["alive"].numpy()):
            log.warning("the environments are not as they were saved: more decides than their seeds and the actions")

    def render(self) -> list[Any]:
        """Return the frames of all copies, if env.kwargs has render_mode=rgb_array."""
        return [env.render() for env in self.copies]

    def close(self) -> None:
        """Close all copies; failures are only logged."""
        reasons = []
        for env in self.copies:
            try:
                env.close()
            except Exception as error:
                reasons.append(told(error))
        if reasons:
            log.warning("%d of %d environments failed in close (%s)", len(reasons), len(self.copies), reasons[0])
        self.copies = []
