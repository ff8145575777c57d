"""Demonstrations: recorded whole episodes to learn from; `episode_file` describes the files."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pgrun.collect.episode_stats import EpisodeStats
from pgrun.config.ranges import Count, FileName
from pgrun.data.policy import Policy
from pgrun.data.types import Obs, Step, Transition, VectorEnv, columns, map_obs, map_transition
from pgrun.envs.episode_file import load
from pgrun.errors import UserError


class DemonstrationRecorder:
    """Records the steps of an evaluation that count."""

    def __init__(self) -> None:
        self.rows: list[Transition] = []

    def __call__(self, obs: Obs, action: Tensor, extras: dict[str, Tensor], step: Step, counted: Tensor) -> None:
        """Record one step of B environments; counted [B] says whose episode counts."""
        real = step.valid & counted
        self.rows.append(
            Transition(obs, action, step.reward, step.discount, step.next_obs, step.last & real, real, extras)
        )

    def rollout(self) -> Transition:
        """Return everything recorded, [T, B, ...]."""
        first, *others = self.rows
        return Transition(
            *(map_obs(lambda *x: torch.stack(x), field, *(o[i] for o in others)) for i, field in enumerate(first))
        )


class Demonstrations:
    """A collector that replays recorded episodes: `episodes` at a time, in random order, each once an epoch.

    The rows it returns count as environment steps, so `total_steps` says how much data is learnt from. Each rollout has
    extras["log_prob"], log μ of the policy that demonstrated; NaN where it is unknown.

    Args:
        source: an .npz or .csv file, or minari:ID.
        episodes: how many at a time, each once an epoch.
    """

    def __init__(self, *, env: VectorEnv, source: FileName | None, episodes: Count) -> None:
        if source is None:
            raise UserError("there is nothing to learn from: give demonstrations=FILE.npz, FILE.csv or minari:ID")
        self.env, self.episodes = env, episodes
        self.data = with_log_prob(demonstrated(source, env))
        self.stats = EpisodeStats(min(episodes, self.data.reward.shape[1]))
        self.order = torch.zeros(0, dtype=torch.int64)

    def collect(self, algorithm: Policy) -> Transition:
        """Return the next episodes, [L, M, ...]."""
        count = self.data.reward.shape[1]
        m = min(self.episodes, count)
        if len(self.order) < m:
            self.order = torch.randperm(count)
        index, self.order = self.order[:m], self.order[m:]
        rollout = columns(self.data, index)
        length = math.ceil(int(rollout.valid.sum(0).max()))
        rollout = map_transition(lambda x: x[:length], rollout)
        self.stats.add(rollout.reward, rollout.last, rollout.valid)
        return rollout

    def snapshot(self) -> dict[str, Any]:
        """Return the rest of the epoch's order and the statistics; see `Collector.snapshot`."""
        return {"env": None, "order": self.order, "stats": self.stats.snapshot()}

    def restore(self, state: dict[str, Any]) -> bool:
        """Restore a snapshot; see `Collector.restore`."""
        self.order = state["order"]
        self.stats.restore(state["stats"], open_episodes=True)
        return True


def demonstrated(source: str, env: VectorEnv) -> Transition:
    """Load the episodes of a file or of `minari:ID` for an environment, one a column: [L, E, ...]."""
    return load(source, env.obs_space, env.action_space, getattr(env, "taken", None))


def with_log_prob(data: Transition) -> Transition:
    """Return the episodes with extras["log_prob"] alone, NaN where it is unknown."""
    known = data.extras.get("log_prob", torch.full_like(data.reward, math.nan))
    return data._replace(extras={"log_prob": known})
