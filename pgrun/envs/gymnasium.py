"""Adapter to Gymnasium's vector environments: native ones, copies in this process or in one each, and envpool."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgrun.data.plain import CantCapture, decode, encode
from pgrun.data.types import WRAPPED, Obs, Step
from pgrun.envs.batch import Batch
from pgrun.envs.codecs import action_codec, observation_codec
from pgrun.envs.infos import EpisodeInfos, Over
from pgrun.envs.one_copy import NOTHING
from pgrun.envs.outside import Outside
from pgrun.envs.state import apply_object, capture_object, copies_of, copy_axes, offers_state
from pgrun.errors import failing, told

log = logging.getLogger("pgrun")


class GymVectorEnv:
    """A Gymnasium VectorEnv as a `VectorEnv` of tensors.

    Autoreset (Gymnasium 1.x): in NEXT_STEP mode the step after an episode's end ignores the action and returns the
    reset observation; that row is marked `valid=False`. In SAME_STEP mode the true successor is in info["final_obs"].

    Args:
        env: the vector environment.
        num_envs: B.
        same_step: True for SAME_STEP mode.
        stateful: how to get its state: "native" (from `env` itself), "copies" (each sub-environment is wrapped in
            `Stateful`) or, in words, why it can't be had.
        float64: keep 64-bit observations; else they become float32.
        name: of an environment whose copies are not `Checked` one by one, so that it is checked here.
        remake: makes it anew with a seed, if `reset` takes none.
        resize: makes a natively vectorised one with another number of copies.
        reads: keys of `info` whose numbers are wanted, and how to reduce each over an episode.
    """

    def __init__(
        self,
        env: Any,
        *,
        num_envs: int,
        same_step: bool,
        stateful: str,
        float64: bool = False,
        name: str = "",
        remake: Callable[[int], Any] | None = None,
        resize: Callable[[int], Any] | None = None,
        reads: Mapping[str, Over] = NOTHING,
    ) -> None:
        self.env, self.num_envs, self.same_step, self.stateful, self.remake = env, num_envs, same_step, stateful, remake
        obs_space = getattr(env, "single_observation_space", None)
        action_space = getattr(env, "single_action_space", None)
        obs_space = env.observation_space if obs_space is None else obs_space  # an empty Dict is false
        action_space = env.action_space if action_space is None else action_space
        self.given, self.taken, self.name = obs_space, action_space, name
        self.obs_space, self._tensor = observation_codec(obs_space, float64=float64)
        self._batch = Batch(obs_space, action_space, num_envs, name, float64) if name else None
        self.action_space, self._action = action_codec(action_space)
        self.taken = action_space  # the environment's own
        self.pending = np.zeros(num_envs, dtype=bool)  # NEXT_STEP: the next row is filler
        self._all_valid = torch.ones(num_envs, dtype=torch.bool)
        self.why_stateless = ""
        self.resize, self.one_object = resize, stateful == "native"
        self._at = failing("an environment", "reset")
        self.infos = EpisodeInfos(reads, num_envs)
        self.changed: dict[str, Any] = {}  # those that `change` put in the place of others
        self.changes = 0  # how often
        self.seed = 0  # of the last reset that had one

    def reset(self, seed: int | None = None, group: int = 1) -> Obs:
        """Start new episodes; see `VectorEnv.reset`."""
        self.pending[:] = False
        self.infos.begin()
        self.seed = self.seed if seed is None else seed
        if group > 1:
            assert seed is not None
            return self._tensor(self._reset_groups(seed, group))
        kwargs: dict[str, Any] = {}
        if seed is not None and self.remake is not None:
            self.env.close()
            self.env = self.remake(seed)
        elif seed is not None:
            kwargs["seed"] = seed if self.stateful == "native" else sub_seeds(seed, self.num_envs)
        self._at.where = "reset"
        with self._at:
            answer = self.env.reset(**kwargs)
            obs = answer[0] if self._batch is None else self._batch.begin(answer)
        return self._tensor(obs)

    def _reset_groups(self, seed: int, group: int) -> Any:
        """Start groups of copies in one state: from one seed, or by copying a native environment's state."""
        if self.stateful != "native":
            seeds = np.repeat(sub_seeds(seed, self.num_envs // group), group)
            return self.env.reset(seed=[int(s) for s in seeds])[0]
        obs, _ = self.env.reset(seed=seed)
        first = np.arange(self.num_envs) // group * group
        base = self.env.unwrapped
        apply_object(base, copies_of(capture_object(base), self.axes, first))
        return {key: part[first] for key, part in obs.items()} if isinstance(obs, dict) else obs[first]

    @functools.cached_property
    def axes(self) -> dict[str, int]:
        """The axis that runs over the copies, for each attribute of a native environment that has one."""
        assert self.resize is not None
        return copy_axes(*(self.resize(n).unwrapped for n in (2, 3)))

    @functools.cached_property
    def ungrouped(self) -> str:
        """The reason why a group of copies can't start in one state; "" if it can."""
        if self.remake is not None:
            return "its copies can't be seeded one by one"
        if self.stateful != "native":
            return ""
        if offers_state(self.env.unwrapped):
            return "the form of its snapshot() is its own affair"
        try:
            return "" if self.axes else "none of its attributes runs over its copies"
        except CantCapture as reason:
            return f"its state can't be copied: {reason}"

    def step(self, action: Tensor) -> Step:
        """Take one step in every copy; see `VectorEnv.step`."""
        self._at.where = "step"
        with self._at:
            answer = self.env.step(self._action(action))
            if self._batch is not None and not self._at.begun:
                self._batch.check_step(answer)
            obs, reward, terminated, truncated, info = answer
            last = terminated | truncated
            ended = bool(last.any())
            if self._batch is not None:
                obs = self._batch.read(obs, info, np.zeros_like(last) if self.same_step else last)
        self._at.begun = True
        observed = self._tensor(obs)
        successor, valid = observed, self._all_valid
        if self.same_step:
            if ended:
                successor = self._tensor(_with_final(obs, info["final_obs"], last))
        else:
            if self.pending.any():
                valid = torch.from_numpy(~self.pending)
                reward = np.where(self.pending, 0.0, reward)
            self.pending = last
        paid = torch.from_numpy(np.array(reward, dtype=np.float32))  # a copy: some write into theirs again
        streams, over = {}, None
        if "own_reward" in info:  # from copies in wrappers
            own = [0.0 if x is None else x for x in info["own_reward"]]
            streams = {"return": torch.tensor(own, dtype=torch.float32), WRAPPED: paid}
            over = torch.from_numpy(last & ~np.array(info.get("goes_on", [False]), dtype=bool))
        infos: dict[str, Tensor] = {}
        if ended or self.infos.sums:
            real = valid.numpy()
            infos = self.infos.read(info, (last if over is None else over.numpy()) & real, real)
        return Step(
            obs=observed,
            next_obs=successor,
            reward=paid,
            discount=torch.from_numpy(1.0 - np.asarray(terminated, dtype=np.float32)),
            last=torch.from_numpy(np.array(last)),
            valid=valid,
            streams=streams,
            over=over,
            infos=infos,
        )

    @property
    def unchangeable(self) -> str:
        """The reason why `change` can't be called; "" if it can."""
        if self.stateful == "copies":
            return ""
        return "its copies are one object, and can't be made anew one by one: use env.backend=sync or async"

    def change(self, arguments: Mapping[str, Any]) -> None:
        """Have each copy's next episode begin with other arguments; see `ChangeableEnv.change`."""
        if arguments == self.changed:
            return
        self.changed, self.changes = dict(arguments), self.changes + 1
        seeds = np.random.SeedSequence([self.seed, self.changes]).generate_state(self.num_envs)
        self.env.all(["change"] * self.num_envs, [(self.changed, int(seed)) for seed in seeds])

    def snapshot(self) -> dict[str, Any] | None:
        """Return the state; None if there is none, and then `why_stateless` says why."""
        state: dict[str, Any] = {"pending": encode(self.pending)}
        if self.infos.sums:
            state["infos"] = self.infos.snapshot()
        if self.changes:
            copies = self.env.all(["changes"] * self.num_envs, [()] * self.num_envs)
            state["changes"] = {"changed": self.changed, "count": self.changes, "copies": copies}
        if self.stateful == "native":
            base = self.env.unwrapped
            try:
                own = encode(base.snapshot(), "snapshot()") if offers_state(base) else None
                return {**state, "native": capture_object(base)} if own is None else {**state, "own": own}
            except CantCapture as reason:
                self.why_stateless = str(reason)
                return None
        if self.stateful == "copies":
            copies = self.env.call("capture_state")
            if reasons := [copy for copy in copies if isinstance(copy, str)]:
                self.why_stateless = reasons[0]
                return None
            return {**state, "copies": list(copies)}
        self.why_stateless = self.stateful
        return None

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot; see `VectorEnv.restore`."""
        self.pending = decode(state["pending"])
        self.infos.restore(state.get("infos", {}))
        if "changes" in state:
            self.changed, self.changes = state["changes"]["changed"], state["changes"]["count"]
            self.env.all(["put_changes"] * self.num_envs, [(copy,) for copy in state["changes"]["copies"]])
        if "own" in state:
            self.env.unwrapped.restore(decode(state["own"]))
        elif "native" in state:
            apply_object(self.env.unwrapped, state["native"])
        else:
            self.env.call("apply_state", state["copies"])
        if hasattr(self.env, "_autoreset_envs"):  # SyncVectorEnv in NEXT_STEP mode: who resets at the next step
            self.env._autoreset_envs = self.pending.copy()

    def outside(self) -> Outside:
        """Return how the environment's own observations and actions become the policy's; see `Outside`."""
        if self.stateful != "copies":
            return Outside(self.given, self.taken, self._tensor, self._action, name=self.name)
        copy = self.env.envs[0]  # `Checked`, which adds a mask to what the environment shows
        inside = copy.masks is None
        name, mask, own = copy.known.name, copy.read_mask, copy.env.observation_space
        return Outside(own, self.taken, self._tensor, self._action, name=name, mask=mask, inside=inside)

    def frames(self, row: int) -> list[Any]:
        """Return a copy's frames since the last step; see `pgrun.envs.frames`."""
        return self.env.frames(row) if hasattr(self.env, "frames") else [self.env.render()[row]]

    def close(self) -> None:
        """Close the environments; a failure is only logged."""
        try:
            self.env.close()
        except Exception as error:  # nothing is lost by it
            log.warning("the environments failed in close (%s)", told(error))


def sub_seeds(seed: int, num_envs: int) -> list[int]:
    """Return one seed a copy; those of neighbouring run seeds differ, unlike seed, seed + 1, …."""
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(num_envs)]


def _with_final(obs: Any, final: Any, last: np.ndarray) -> Any:
    """Replace the observations of ended episodes by their final ones."""
    if isinstance(obs, dict):
        if not isinstance(final, dict):  # a dict an environment, not a dict of their arrays
            final = {key: [f[key] if ended else None for f, ended in zip(final, last, strict=True)] for key in obs}
        return {key: _with_final(obs[key], final[key], last) for key in obs}
    merged = np.array(obs)
    for i in np.nonzero(last)[0]:
        merged[i] = final[i]
    return merged
