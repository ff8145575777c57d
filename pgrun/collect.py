"""The Collector acts: it runs the policy in the environments and hands back what happened."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.algos.base import Algorithm
from pgrun.errors import Diverged
from pgrun.types import Carry, Obs, Step, Transition, VectorEnv, map_obs


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


class EpisodeStats:
    """Returns and lengths of episodes, open and finished, from raw rewards."""

    def __init__(self, num_envs: int) -> None:
        self.returns = np.zeros(num_envs)  # of the open episodes
        self.lengths = np.zeros(num_envs, dtype=np.int64)
        self.finished: list[tuple[float, int]] = []  # since somebody last took them
        self.recent: deque[float] = deque(maxlen=100)
        self.count = 0

    def add(self, reward: Tensor, last: Tensor, valid: Tensor) -> None:
        """Account for a rollout, all [T, B]; rows that are not valid count nowhere."""
        real = valid.cpu().numpy()
        r = reward.cpu().numpy().astype(np.float64) * real
        ends = last.cpu().numpy() & real
        if not ends.any():
            self.returns += r.sum(0)
            self.lengths += real.sum(0)
            return
        returns = self.returns + r.cumsum(0)  # [T, B] since the rollout's start, episode ends not yet taken off
        lengths = self.lengths + real.cumsum(0)
        done_r, done_l = np.zeros_like(self.returns), np.zeros_like(self.lengths)
        for t, b in np.argwhere(ends).tolist():
            episode = (float(returns[t, b] - done_r[b]), int(lengths[t, b] - done_l[b]))
            done_r[b], done_l[b] = returns[t, b], lengths[t, b]
            self.finished.append(episode)
            self.recent.append(episode[0])
            self.count += 1
        self.returns, self.lengths = returns[-1] - done_r, lengths[-1] - done_l

    def take(self) -> list[tuple[float, int]]:
        """The (return, length) of the episodes finished since the last call."""
        finished, self.finished = self.finished, []
        return finished

    def snapshot(self) -> dict[str, Any]:
        """As tensors and plain values."""
        return {
            "returns": torch.from_numpy(self.returns.copy()),
            "lengths": torch.from_numpy(self.lengths.copy()),
            "finished": list(self.finished),
            "recent": list(self.recent),
            "count": self.count,
        }

    def restore(self, state: dict[str, Any], *, open_episodes: bool) -> None:
        """Put a snapshot back, the open episodes only where their environments came back too."""
        if open_episodes:
            self.returns, self.lengths = state["returns"].numpy().copy(), state["lengths"].numpy().copy()
        self.finished = [tuple(episode) for episode in state["finished"]]
        self.recent.extend(state["recent"])
        self.count = state["count"]


class Rollouts:
    """T steps in each of B environments, episodes carried over from one rollout to the next.

    Args:
        env: the environments.
        length: T.
        random_steps: act uniformly at random for so many environment steps first.
        device: where the policy acts; when the algorithm learns elsewhere, a copy of it acts here.
        seed: the environments' first seed.
    """

    def __init__(self, *, env: VectorEnv, length: int, random_steps: int, device: str, seed: int) -> None:
        self.env, self.length, self.random_steps, self.seed = env, length, random_steps, seed
        self.actor = Actor(device)
        self.random = random_actions(env.action_space)
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
                action = self.random(env.num_envs)
                extras: dict[str, Tensor] = {}
                self.steps += env.num_envs
            else:
                action, self.carry, extras = policy.act(self.obs, self.carry, True)
            self.obs, self.carry = run.step(env, policy, self.obs, action, extras, self.carry)
        rollout = run.rollout()
        check_observations(rollout)
        self.stats.add(rollout.reward, rollout.last, rollout.valid)
        return rollout

    def snapshot(self) -> dict[str, Any]:
        return {
            "env": self.env.snapshot() if self.obs is not None else None,
            "obs": self.obs,
            "carry": self.carry,
            "steps": self.steps,
            "stats": self.stats.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        self.steps = state["steps"]
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
    """

    def __init__(self, *, env: VectorEnv, episodes: int, device: str, seed: int) -> None:
        self.env, self.share, self.seed = env, -(-episodes // env.num_envs), seed
        self.actor = Actor(device)
        self.stats = EpisodeStats(env.num_envs)
        self.started = False

    @torch.no_grad()
    def collect(self, algorithm: Algorithm) -> Transition:
        """-> [T, B, ...], T the longest environment's share."""
        policy, env = self.actor.of(algorithm), self.env
        obs = env.reset(None if self.started else self.seed)
        self.started = True
        carry = policy.initial_carry(env.num_envs)
        run, left = _Recorder(), torch.full((env.num_envs,), self.share)
        while bool((left > 0).any()):
            action, carry, extras = policy.act(obs, carry, True)
            active = left > 0
            obs, carry = run.step(env, policy, obs, action, extras, carry)
            run.valid[-1] = run.valid[-1] & active
            left -= (run.last[-1] & active).long()
        rollout = run.rollout()
        check_observations(rollout)
        self.stats.add(rollout.reward, rollout.last, rollout.valid)
        return rollout

    def snapshot(self) -> dict[str, Any]:
        return {
            "env": self.env.snapshot() if self.started else None,
            "started": self.started,
            "stats": self.stats.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        whole = state["env"] is not None
        self.stats.restore(state["stats"], open_episodes=whole)
        if whole:
            self.env.reset(self.seed)
            self.env.restore(state["env"])
            self.started = state["started"]
        else:
            self.seed += 1 + self.stats.count
        return whole or not state["started"]


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
        self.extras: list[dict[str, Tensor]] = []

    def step(
        self, env: VectorEnv, policy: Algorithm, obs: Obs, action: Tensor, extras: dict[str, Tensor], carry: Carry
    ) -> tuple[Obs, Carry]:
        """Step the environments; -> what to act on next, and the carry, begun anew where an episode ended."""
        step = env.step(action)
        self.obs.append(obs)
        self.action.append(action)
        self.next_obs.append(step.next_obs)
        self.reward.append(step.reward)
        self.discount.append(step.discount)
        self.last.append(step.last)
        self.valid.append(step.valid)
        self.extras.append(extras)
        return step.obs, begun_anew(carry, step, policy)

    def rollout(self) -> Transition:
        """All steps, stacked; [T, B, ...]."""
        first = self.extras[0]
        return Transition(
            obs=_stack(self.obs),
            action=torch.stack(self.action),
            reward=torch.stack(self.reward),
            discount=torch.stack(self.discount),
            next_obs=_stack(self.next_obs),
            last=torch.stack(self.last),
            valid=torch.stack(self.valid),
            extras={key: torch.stack([each[key] for each in self.extras]) for key in first},
        )


def begun_anew(carry: Carry, step: Step, policy: Algorithm) -> Carry:
    """The carry after a step: the initial one where an episode ended, and after a filler row."""
    if not carry or bool((ended := step.last | ~step.valid).logical_not().all()):
        return carry
    fresh = policy.initial_carry(len(ended))
    return tuple(
        torch.where(ended.reshape(-1, *([1] * (c.dim() - 1))), f, c) for c, f in zip(carry, fresh, strict=True)
    )


def _stack(obs: list[Obs]) -> Obs:
    return map_obs(lambda *parts: torch.stack(parts), obs[0], *obs[1:])


def check_observations(rollout: Transition) -> None:
    """Raise Diverged where an observation or a reward is not finite; one look at the data a rollout."""
    parts = rollout.next_obs if isinstance(rollout.next_obs, dict) else {"": rollout.next_obs}
    for name, x in (*parts.items(), ("reward", rollout.reward)):
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            where = (~torch.isfinite(x)).nonzero()[0].tolist()
            what = "the reward" if name == "reward" else f"the observation{f' {name!r}' if name else ''}"
            value = float(x[tuple(where)])
            coordinate = f", coordinate {where[2:]}" if where[2:] else ""
            raise Diverged(f"{what} of environment {where[1]} is {value}{coordinate}")


def random_actions(space: gym.Space) -> Callable[[int], Tensor]:
    """A function B -> actions [B, *A], uniform over a space (a canonical Box: over [−1, 1])."""
    spaces = gym.spaces
    if isinstance(space, spaces.Discrete):
        return lambda b: torch.randint(int(space.n), (b,))
    if isinstance(space, spaces.MultiDiscrete):
        sizes = torch.as_tensor(space.nvec.flatten())
        return lambda b: (torch.rand(b, len(sizes)) * sizes).long()
    if isinstance(space, spaces.MultiBinary):
        return lambda b: torch.randint(2, (b, *space.shape)).float()
    return lambda b: torch.rand(b, *(space.shape or ())) * 2.0 - 1.0
