"""A collector of rollouts of a fixed length."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pgrun.collect.acting import ask, device_of, finish, finish_rollout, never
from pgrun.collect.captured_steps import CapturedSteps
from pgrun.collect.collector import ActingPolicy
from pgrun.collect.compiled_steps import CompiledSteps
from pgrun.collect.episode_stats import EpisodeStats
from pgrun.collect.random_actions import legal, random_actions
from pgrun.collect.recorder import Recorder
from pgrun.config.ranges import Count
from pgrun.data.policy import Policy
from pgrun.data.stepping import stepped
from pgrun.data.types import Carry, Obs, Transition, VectorEnv, map_obs
from pgrun.errors import CantRecord
from pgrun.optim.cuda_graphs import Graphs
from pgrun.optim.recording import mapped

log = logging.getLogger("pgrun")


class Rollouts:
    """Collects T steps in each of B environments; episodes go on from one rollout to the next.

    Args:
        env: the environments.
        length: T, steps in each environment between updates.
        random_steps: act uniformly at random for so many environment steps first.
        device: where the policy acts; when the algorithm learns elsewhere, a copy of it acts here.
        seed: the environments' first seed.
        random_hold: steps that each random action is held for; actions that are held longer get further.
        compile: act by a compiled function on the CPU; in a world of tensors it steps the environments, too.
    """

    def __init__(
        self,
        *,
        env: VectorEnv,
        length: int,
        random_steps: int,
        device: str,
        seed: int,
        random_hold: Count = 1,
        compile: bool = False,
    ) -> None:
        self.env, self.length, self.random_steps, self.seed = env, length, random_steps, seed
        self.actor = ActingPolicy(device)
        self.compiled = CompiledSteps(env, compile and device == "cpu")
        self.random, self.random_hold = random_actions(env.action_space), random_hold
        self.held = torch.zeros(0)  # the random action that is taken now, [B, *A]
        self.stats = EpisodeStats(env.num_envs, env.action_space)
        self.random_taken = 0  # random steps so far
        self.obs: Obs = None
        self.carry: Carry | None = None
        self.interrupted: Callable[[], bool] = never
        self.open = Recorder()  # the rows of an interrupted rollout
        self.acting = False  # also after a failure, which leaves the environments between two states

    def capture(self, graphs: Graphs) -> None:
        """Capture acting, and the steps of environments that are on the graphs' device, from here on."""
        self.compiled = CapturedSteps(self.env, graphs)

    @property
    def compile_seconds(self) -> float:
        """Seconds that compiling and capturing have taken."""
        return self.compiled.seconds

    @torch.no_grad()
    def collect(self, algorithm: Policy) -> Transition | None:
        """Return a rollout [T, B, ...]; None if interrupted."""
        policy, env, recorder = self.actor.of(algorithm), self.env, self.open
        self.acting = True
        if self.obs is None:
            self.obs = env.reset(self.seed)
        if self.carry is None:
            self.carry = policy.initial_carry(env.num_envs)
        if not len(recorder) and self.random_taken >= self.random_steps and self.compiled.loops(self.length):
            if self.interrupted():
                self.acting = False
                return None
            try:
                rollout, streams, self.obs, self.carry = self.compiled.rollout(
                    policy, self.obs, self.carry, self.length
                )
            except CantRecord as why:
                self.compiled.give_up(why)
            else:
                self.acting = False
                return finish(rollout, self.stats, streams, rollout.last, later=self.compiled.later)
        while len(recorder) < self.length:
            if self.interrupted():
                self.acting = False
                return None
            step = None
            if self.random_taken < self.random_steps:
                if self.random_taken // env.num_envs % self.random_hold == 0:
                    self.held = self.random(env.num_envs)
                self.held = legal(self.held, self.obs)
                action = self.held.to(device_of(self.obs))
                extras: dict[str, Tensor] = {}
                if getattr(policy, "recurrent", False):  # it remembers what it sees, whoever acts
                    _, self.carry, extras = ask(policy, self.obs, self.carry, explore=False)
                self.random_taken += env.num_envs
            elif self.compiled.able:
                action, self.carry, extras, step = self.compiled(policy, self.obs, self.carry)
            else:
                action, self.carry, extras = ask(policy, self.obs, self.carry, explore=True)
            step = stepped(env, action) if step is None else step
            self.obs, self.carry = recorder.keep(step, policy, self.obs, action, extras, self.carry)
        self.open, self.acting = Recorder(), False
        return finish_rollout(recorder, self.stats)

    def snapshot(self) -> dict[str, Any]:
        """Return the state of environments, open rollout and statistics; see `Collector.snapshot`."""
        state = self.env.snapshot() if self.obs is not None and not self.acting else None
        return {
            "env": state,
            "obs": self.obs,
            "carry": self.carry,
            "steps": self.random_taken,
            "held": self.held,
            "stats": self.stats.snapshot(),
            "open": None if state is None else self.open.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Restore a snapshot; see `Collector.restore`."""
        self.random_taken, self.held = state["steps"], state.get("held", self.held)
        whole = state["env"] is not None
        self.stats.restore(state["stats"], open_episodes=whole)
        if whole:
            self.env.reset(self.seed)
            self.env.restore(state["env"])
            on = getattr(self.env, "device", torch.device("cpu"))  # it may be another than when this was saved
            self.obs, carry = map_obs(lambda x: x.to(on), state["obs"]), state["carry"]
            self.carry = None if carry is None else tuple(x.to(self.actor.device) for x in carry)
            self.open = Recorder.of(mapped(lambda x: x.to(on), state.get("open"), Tensor))
        else:
            self.seed += 1 + self.stats.count  # other episodes than before
        return whole or state["obs"] is None
