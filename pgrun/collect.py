"""The Collector acts: it runs the policy in the environments and hands back what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pgrun.algos.base import Algorithm
from pgrun.episodes import NO_STREAMS, EpisodeStats
from pgrun.errors import Diverged, UserError
from pgrun.random_actions import legal, random_actions
from pgrun.types import Carry, Obs, Step, Transition, VectorEnv, map_obs, stepped


class Collector(Protocol):
    """Decides what one rollout is."""

    env: VectorEnv
    stats: EpisodeStats

    def collect(self, algorithm: Algorithm) -> Transition:
        """Act and return a rollout [T, B, ...]."""

    def snapshot(self) -> dict[str, Any]:
        """Environment states, open episodes, what the policy remembers."""

    def restore(self, state: dict[str, Any]) -> bool:
        """Put a snapshot back; False where the environments had to start fresh episodes."""


class Rollouts:
    """T steps in each of B environments, episodes carried over from one rollout to the next.

    Args:
        env: the environments.
        length: T.
        random_steps: act uniformly at random for so many environment steps first.
        device: where the policy acts; when the algorithm learns elsewhere, a copy of it acts here.
        seed: the environments' first seed.
        random_hold: steps that each random action is taken for, on and on: longer ones get further.
    """

    def __init__(
        self, *, env: VectorEnv, length: int, random_steps: int, device: str, seed: int, random_hold: int = 1
    ) -> None:
        self.env, self.length, self.random_steps, self.seed = env, length, random_steps, seed
        self.actor = Actor(device)
        self.random, self.random_hold = random_actions(env.action_space), random_hold
        self.held = torch.zeros(0)  # the random action that is taken now, [B, *A]
        self.stats = EpisodeStats(env.num_envs)
        self.steps = 0
        self.obs: Obs = None
        self.carry: Carry | None = None

    @torch.no_grad()
    def collect(self, algorithm: Algorithm) -> Transition:
        """-> [T, B, ...]."""
        policy, env = self.actor.of(algorithm), self.env
        if self.obs is None:
            self.obs = env.reset(self.seed)
        if self.carry is None:
            self.carry = policy.initial_carry(env.num_envs)
        run = _Recorder()
        for _ in range(self.length):
            if self.steps < self.random_steps:
                if self.steps // env.num_envs % self.random_hold == 0:
                    self.held = self.random(env.num_envs)
                action = self.held = legal(self.held, self.obs)
                extras: dict[str, Tensor] = {}
                self.steps += env.num_envs
            else:
                action, self.carry, extras = ask(policy, self.obs, self.carry, explore=True)
            self.obs, self.carry = run.step(env, policy, self.obs, action, extras, self.carry)
        rollout = run.rollout()
        check_observations(rollout)
        self.stats.add(rollout.reward, rollout.last, rollout.valid, run.streams())
        return rollout

    def snapshot(self) -> dict[str, Any]:
        return {
            "env": self.env.snapshot() if self.obs is not None else None,
            "obs": self.obs,
            "carry": self.carry,
            "steps": self.steps,
            "held": self.held,
            "stats": self.stats.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        self.steps, self.held = state["steps"], state.get("held", self.held)
        whole = state["env"] is not None
        self.stats.restore(state["stats"], open_episodes=whole)
        if whole:
            self.env.reset(self.seed)
            self.env.restore(state["env"])
            self.obs, self.carry = state["obs"], state["carry"]
        else:
            self.seed += 1 + self.stats.count  # not the episodes that were seen before
        return whole or state["obs"] is None


class Episodes:
    """Whole episodes: each environment runs its share of `episodes` from a fresh start, so that short episodes are
    not over-represented. Rows past an environment's share are padding (valid=False), counted nowhere.

    Args:
        env: the environments.
        episodes: how many a rollout, rounded up to a multiple of the environments.
        device: where the policy acts.
        seed: the environments' first seed.
        group: G; environments 0 to G − 1 start in one state, the next G in another, each for one episode a rollout.
    """

    def __init__(self, *, env: VectorEnv, episodes: int, device: str, seed: int, group: int = 1) -> None:
        self.env, self.share, self.seed, self.group = env, -(-episodes // env.num_envs), seed, group
        if group > 1:
            check_groups(env, self.share, group)
        self.actor = Actor(device)
        self.stats = EpisodeStats(env.num_envs)
        self.rollouts = 0

    @torch.no_grad()
    def collect(self, algorithm: Algorithm) -> Transition:
        """-> [T, B, ...], T the longest environment's share."""
        policy, env = self.actor.of(algorithm), self.env
        obs = self.begin() if self.group == 1 else self.begin_groups()
        self.rollouts += 1
        carry = policy.initial_carry(env.num_envs)
        run, left = _Recorder(), torch.full((env.num_envs,), self.share)
        while bool((left > 0).any()):
            action, carry, extras = ask(policy, obs, carry, explore=True)
            active = left > 0
            obs, carry = run.step(env, policy, obs, action, extras, carry)
            run.valid[-1] = run.valid[-1] & active
            left -= (run.last[-1] & active).long()
        rollout = run.rollout()
        check_observations(rollout)
        self.stats.add(rollout.reward, rollout.last, rollout.valid, run.streams())
        return rollout

    def begin(self) -> Obs:
        """Fresh episodes; the environments are seeded once, so that these differ from rollout to rollout."""
        return self.env.reset(None if self.rollouts else self.seed)

    def begin_groups(self) -> Obs:
        """Fresh episodes, the start states repeated in groups: a seed for each rollout, from which all follows."""
        seed = np.random.SeedSequence([self.seed, self.rollouts]).generate_state(1)[0]
        obs = self.env.reset(int(seed), self.group)
        for x in obs.values() if isinstance(obs, dict) else [obs]:
            groups = x.unflatten(0, (-1, self.group))
            if not torch.equal(groups, groups[:, :1].expand_as(groups)):
                raise UserError("the environments of a group start in different states: more decides than their seed")
        return obs

    def snapshot(self) -> dict[str, Any]:
        return {
            "env": self.env.snapshot() if self.rollouts else None,
            "rollouts": self.rollouts,
            "stats": self.stats.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        whole = state["env"] is not None
        self.stats.restore(state["stats"], open_episodes=whole)
        if whole:
            self.env.reset(self.seed)
            self.env.restore(state["env"])
        if whole or self.group > 1:
            self.rollouts = state["rollouts"]
        else:
            self.seed += 1 + self.stats.count
        return whole or not state["rollouts"]


def check_groups(env: VectorEnv, share: int, group: int) -> None:
    """Raise UserError where these environments can't start in groups of this size."""
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


class Actor:
    """The policy on the device where it acts: the algorithm itself, or a copy that follows it."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.copy: Algorithm | None = None

    def of(self, algorithm: Algorithm) -> Algorithm:
        """The policy to act with now."""
        if algorithm.device.type == self.device.type:
            return algorithm
        if self.copy is None:
            self.copy = algorithm.replica(self.device)
        self.copy.load_state_dict(algorithm.state_dict())
        self.copy.progress = algorithm.progress  # exploration has schedules
        return self.copy


class _Recorder:
    """Collects the steps of one rollout in lists and stacks them once."""

    def __init__(self) -> None:
        self.obs: list[Obs] = []
        self.next_obs: list[Obs] = []
        self.action: list[Tensor] = []
        self.reward: list[Tensor] = []
        self.discount: list[Tensor] = []
        self.last: list[Tensor] = []
        self.valid: list[Tensor] = []
        self.other: list[dict[str, Tensor]] = []
        self.extras: list[dict[str, Tensor]] = []

    def step(
        self, env: VectorEnv, policy: Algorithm, obs: Obs, action: Tensor, extras: dict[str, Tensor], carry: Carry
    ) -> tuple[Obs, Carry]:
        """Step the environments; -> what to act on next, and the carry, begun anew where an episode ended."""
        step = stepped(env, action)
        self.obs.append(obs)
        self.action.append(action)
        self.next_obs.append(step.next_obs)
        self.reward.append(step.reward)
        self.discount.append(step.discount)
        self.last.append(step.last)
        self.valid.append(step.valid)
        self.extras.append(extras)
        if step.streams:
            self.other.append(step.streams)
        return step.obs, begun_anew(carry, step, policy)

    def streams(self) -> dict[str, Tensor]:
        """The rewards that are only logged, each [T, B]."""
        return {name: torch.stack([each[name] for each in self.other]) for name in (self.other or [NO_STREAMS])[0]}

    def rollout(self) -> Transition:
        """All steps, stacked; [T, B, ...]."""
        first = self.extras[0]
        return Transition(
            obs=_stack_obs(self.obs),
            action=_stack(self.action),
            reward=_stack(self.reward),
            discount=_stack(self.discount),
            next_obs=_stack_obs(self.next_obs),
            last=_stack(self.last),
            valid=_stack(self.valid),
            extras={key: _stack([each[key] for each in self.extras]) for key in first},
        )


def ask(policy: Algorithm, obs: Obs, carry: Carry, *, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
    """`policy.act` where the policy is: environments give and take tensors on the CPU; the carry stays with it."""
    on = policy.device
    if on.type == "cpu":
        return policy.act(obs, carry, explore)
    there = map_obs(lambda x: x.to(on), obs), tuple(c.to(on) for c in carry)
    action, carry, extras = policy.act(*there, explore)
    return action.cpu(), carry, {key: x.cpu() for key, x in extras.items()}


def begun_anew(carry: Carry, step: Step, policy: Algorithm) -> Carry:
    """The carry after a step: the initial one where an episode ended, and after a filler row."""
    if not carry or bool((ended := step.last | ~step.valid).logical_not().all()):
        return carry
    fresh = policy.initial_carry(len(ended))
    return tuple(
        torch.where(ended.reshape(-1, *([1] * (c.dim() - 1))).to(c.device), f, c)
        for c, f in zip(carry, fresh, strict=True)
    )


def _stack(steps: Sequence[Tensor]) -> Tensor:
    return torch.stack(steps) if len(steps) > 1 else steps[0].unsqueeze(0)  # type: ignore[arg-type]


def _stack_obs(steps: list[Obs]) -> Obs:
    return map_obs(lambda *parts: _stack(parts), steps[0], *steps[1:])


def check_observations(rollout: Transition) -> None:
    """Raise Diverged where an observation or a reward is not finite; one look at the data a rollout."""
    seen = [obs if isinstance(obs, dict) else {"": obs} for obs in (rollout.obs, rollout.next_obs)]
    for name, x in (*seen[0].items(), *seen[1].items(), ("reward", rollout.reward)):
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            where = (~torch.isfinite(x)).nonzero()[0].tolist()
            what = "the reward" if name == "reward" else f"the observation{f' {name!r}' if name else ''}"
            value = float(x[tuple(where)])
            coordinate = f", coordinate {where[2:]}" if where[2:] else ""
            raise Diverged(f"{what} of environment {where[1]} is {value}{coordinate}")
