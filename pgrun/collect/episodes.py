"""A collector of whole episodes: each rollout begins and ends with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pgrun.collect.acting import Bound, ask, finish_rollout, never
from pgrun.collect.collector import ActingPolicy
from pgrun.collect.episode_stats import EpisodeStats
from pgrun.collect.recorder import Recorder
from pgrun.collect.rollouts import log
from pgrun.config.ranges import Count
from pgrun.data.policy import Policy
from pgrun.data.stepping import stepped
from pgrun.data.types import Obs, Transition, VectorEnv
from pgrun.errors import UserError


class Episodes:
    """Collects whole episodes; each environment runs its share of `episodes` from a fresh start.

    Fixed shares keep short episodes from being over-represented. Rows past an environment's share are padding
    (valid=False), counted nowhere.

    Args:
        env: the environments.
        episodes: how many a rollout, rounded up to a multiple of the environments.
        device: where the policy acts.
        seed: the environments' first seed.
        max_steps: an episode is cut after so many, as by a time limit; None: never.
        group: G; environments 0 to G − 1 start in one state, the next G in another, each for one episode a rollout.
    """

    def __init__(
        self,
        *,
        env: VectorEnv,
        episodes: Count,
        device: str,
        seed: int,
        max_steps: Count | None = None,
        group: Count = 1,
    ) -> None:
        self.env, self.share, self.seed, self.group = env, -(-episodes // env.num_envs), seed, group
        self.bound = Bound(max_steps)
        if group > 1:
            check_groups(env, self.share, group)
        self.actor = ActingPolicy(device)
        self.stats = EpisodeStats(env.num_envs, env.action_space)
        self.rollouts = 0
        self.interrupted: Callable[[], bool] = never
        self.open: dict[str, Any] | None = None  # the rows of an interrupted rollout
        self.acting = False  # also after a failure, which leaves the environments between two states

    @torch.no_grad()
    def collect(self, algorithm: Policy) -> Transition | None:
        """Return a rollout [T, B, ...] with T the longest environment's share; None if interrupted."""
        policy, env, b = self.actor.of(algorithm), self.env, self.env.num_envs
        self.acting = True
        if self.open is None:
            obs = self.begin() if self.group == 1 else self.begin_groups()
            carry, recorder, left = policy.initial_carry(b), Recorder(), torch.full((b,), self.share)
            self.bound.begin(b)
        else:
            obs, carry, left = (self.open[key] for key in ("obs", "carry", "left"))
            recorder = self.open["run"]
            self.bound.go_on(self.open["length"], self.open["over"])
            self.open = None
        while bool((left > 0).any()):
            if self.interrupted():
                kept = {"obs": obs, "carry": carry, "left": left, "run": recorder}
                self.open = {**kept, "length": self.bound.length, "over": self.bound.over}
                self.acting = False
                return None
            action, carry, extras = ask(policy, obs, carry, explore=True)
            active = (left > 0) & ~self.bound.over
            obs, carry = recorder.keep(stepped(env, action), policy, obs, action, extras, carry)
            recorder.valid[-1] = recorder.valid[-1] & active
            if bool((cut := self.bound.passed(recorder.valid[-1], recorder.last[-1])).any()):
                recorder.last[-1] = recorder.last[-1] | cut
                self.tell_cut()
            left = left - (recorder.last[-1] & active).long()
            if self.bound.cuts and bool((left > 0).any()) and bool((self.bound.over | (left == 0)).all()):
                obs, carry = env.reset(), policy.initial_carry(b)  # all episodes that remain were cut
                self.bound.begin(b)
        self.rollouts += 1
        self.acting = False
        return finish_rollout(recorder, self.stats)

    def tell_cut(self) -> None:
        """Log, the first time, that an episode was cut."""
        if not self.bound.told:
            self.bound.told = True
            log.warning(
                "an episode was cut at collector.max_steps=%d, and is learnt from as if a time limit had ended it: "
                "raise that, or give the environment a limit of its own (env.max_episode_steps)",
                self.bound.most,
            )

    def begin(self) -> Obs:
        """Begin fresh episodes; only the first reset has a seed, so that later rollouts differ."""
        return self.env.reset(None if self.rollouts else self.seed)

    def begin_groups(self) -> Obs:
        """Begin fresh episodes with start states repeated in groups; each rollout has a seed of its own."""
        seed = np.random.SeedSequence([self.seed, self.rollouts]).generate_state(1)[0]
        obs = self.env.reset(int(seed), self.group)
        for x in obs.values() if isinstance(obs, dict) else [obs]:
            groups = x.unflatten(0, (-1, self.group))
            if not torch.equal(groups, groups[:, :1].expand_as(groups)):
                raise UserError("the environments of a group start in different states: more decides than their seed")
        return obs

    def snapshot(self) -> dict[str, Any]:
        """Return the state of environments, open rollout and statistics; see `Collector.snapshot`."""
        begun = self.rollouts > 0 or self.open is not None
        state = self.env.snapshot() if begun and not self.acting else None
        kept = None if state is None or self.open is None else {**self.open, "run": self.open["run"].snapshot()}
        return {"env": state, "rollouts": self.rollouts, "stats": self.stats.snapshot(), "open": kept}

    def restore(self, state: dict[str, Any]) -> bool:
        """Restore a snapshot; see `Collector.restore`."""
        whole = state["env"] is not None
        self.stats.restore(state["stats"], open_episodes=whole)
        if whole:
            self.env.reset(self.seed)
            self.env.restore(state["env"])
            if (kept := state.get("open")) is not None:
                self.open = {**kept, "run": Recorder.of(kept["run"])}
        if whole or self.group > 1:
            self.rollouts = state["rollouts"]
        else:
            self.seed += 1 + self.stats.count
        return whole or not state["rollouts"]


def check_groups(env: VectorEnv, share: int, group: int) -> None:
    """Raise UserError if these environments can't start in groups of this size."""
    if reason := getattr(env, "ungrouped", "it has no groups of start states"):
        raise UserError(
            f"these environments can't start {group} copies in one state ({reason}); use env.backend=sync where there "
            "are backends, or an algorithm without groups, such as algo=ppo"
        )
    if env.num_envs % group:
        near = max(env.num_envs // group, 1) * group
        raise UserError(f"env.num_envs={env.num_envs} can't be cut into groups of {group}; use env.num_envs={near}")
    if share > 1:
        raise UserError("with groups each environment runs one episode a rollout: set env.num_envs to the episodes")
