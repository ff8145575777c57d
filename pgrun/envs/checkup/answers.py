"""Examination of what an environment returns, step by step."""

from __future__ import annotations

import copy
import time
from typing import Any

import gymnasium as gym
import numpy as np

from pgrun.envs.checkup.findings import Hopeless, Report, found
from pgrun.envs.checkup.walk import Walk, leaves, mask_of, same
from pgrun.envs.interface import check_form, flag, number
from pgrun.envs.masks import KEY, MaskReader
from pgrun.envs.reading import LARGEST, Reader, reader, said, shown

spaces = gym.spaces
PATIENCE = 20.0  # seconds for the longest walk
LARGE_REWARD, SMALL_REWARD = 1e4, 1e-4


class Examiner:
    """Examines what an environment returns, step by step.

    Args:
        report: where findings go.
        env: the environment, for its spaces.
    """

    def __init__(self, report: Report, env: gym.Env) -> None:
        self.report, self.env = report, env
        given = env.observation_space
        self.inside = isinstance(given, spaces.Dict) and KEY in given.spaces
        kept = {k: v for k, v in given.items() if k != KEY} if isinstance(given, spaces.Dict) else {}
        self.seen: gym.Space = spaces.Dict(kept) if self.inside else given
        self.read: Reader = reader(self.seen, "it")
        self.masks: MaskReader | None = None
        self.largest, self.smallest = 0.0, np.inf  # of rewards that are not 0

    def answer(self, answer: Any, method: str, at: str) -> None:
        """Examine what `reset` or `step` returned; raise Hopeless where it can't be read."""
        with found(self.report, f"form of {method}", f"{method}(){at}"):
            check_form(answer, method, self.report.name)
        if self.report.breaks:
            raise Hopeless
        obs, info = answer[0], answer[-1]
        if info is None:
            self.report.add("info", f"{method}(){at}", "its info is None", "return a dict, {} for none", breaks=False)
        ended = False
        if method == "step":
            self.reward(answer[1], at)
            ended = [self.sign(answer[2], "terminated", at), self.sign(answer[3], "truncated", at)] != [False, False]
        self.observation(obs, method, at)
        self.mask(obs, info, ended, method, at)
        if self.report.breaks:
            raise Hopeless

    def reward(self, reward: Any, at: str) -> None:
        """Examine a reward."""
        where = f"the reward of step(){at}"
        with found(self.report, "reward", where):
            value = number(reward, "it")
            if not np.isfinite(value):
                self.report.add("reward", where, f"it is {value}", "pay a finite number")
            elif isinstance(reward, (list, tuple)) or np.ndim(reward) > 0:
                self.report.add(
                    "reward's form",
                    where,
                    f"it is {shown(reward)}",
                    "return one number, as float(reward)",
                    breaks=False,
                )
            if value:
                self.largest, self.smallest = max(self.largest, abs(value)), min(self.smallest, abs(value))

    def sign(self, value: Any, what: str, at: str) -> bool:
        """Examine a sign of an episode's end, and return it."""
        where = f"{what} of step(){at}"
        with found(self.report, what, where):
            ended = flag(value, "it")
            if not isinstance(value, (bool, np.bool_)):
                self.report.add(
                    f"{what}'s form", where, f"it is {shown(value)}", "return True or False, as bool(…)", breaks=False
                )
            return ended
        return False

    def observation(self, obs: Any, method: str, at: str) -> None:
        """Examine an observation: its form, its numbers and its bounds."""
        where = f"the observation of {method}(){at}"
        with found(self.report, "observation", where):
            read = self.read(obs)
            given, parts = dict(leaves(obs)), dict(leaves(self.seen))
            for key, x in leaves(read):
                self.numbers(np.asarray(x), given.get(key), parts.get(key), f"{where}{f', {key!r}' * bool(key)}")

    def numbers(self, x: np.ndarray, given: Any, space: Any, where: str) -> None:
        """Examine one array of an observation."""
        add = self.report.add
        if not np.isfinite(x).all():
            add("finite", where, f"it holds {x[~np.isfinite(x)].flat[0]}", "return finite numbers alone")
        elif isinstance(space, spaces.Box) and ((x < space.low) | (x > space.high)).any():
            odd = x[(x < space.low) | (x > space.high)].flat[0]
            whole = space.dtype.kind != "f"  # type: ignore[union-attr]
            add(
                "bounds",
                where,
                f"it holds {odd}, but its space says {said(space)}",
                "make the space as wide as what is seen, or clip to it",
                breaks=whole,
            )
        kind = getattr(given, "dtype", None)
        if isinstance(space, spaces.Box) and kind != space.dtype:
            came = shown(given) if kind is None else f"of type {kind}"
            add(
                "type",
                where,
                f"it is {came}, but its space says {said(space)}; it is converted at every step",
                f"return np.asarray(observation, np.{space.dtype})",
                breaks=False,
            )
        if x.size and x.dtype.kind == "f" and np.isfinite(x).all() and np.abs(x).max() > LARGEST:
            add(
                "large",
                where,
                f"it holds {x.flat[np.abs(x).argmax()]:g}; networks read float32, with seven digits",
                "scale it, or use network.normalize_obs=true",
                breaks=False,
            )

    def mask(self, obs: Any, info: Any, ended: bool, method: str, at: str) -> None:
        """Examine the mask of actions, if there is one."""
        mask, place = mask_of(self.env, obs, info)
        if self.masks is None and place:
            self.masks = self.reader_of_masks(obs, place)
        if self.masks is None:
            return
        with found(self.report, "mask", f"{place or 'the mask'} of {method}(){at}"):
            self.masks(mask, ended)

    def reader_of_masks(self, obs: Any, place: str) -> MaskReader | None:
        """Make the reader of masks; a refusal is a finding."""
        with found(self.report, "mask", place):
            low = getattr(self.env.observation_space[KEY], "low", None) if self.inside else None  # type: ignore[index]
            return MaskReader(self.env.action_space, "it", adds=low is not None and bool((low < 0).any()))
        return None


def examine_walk(report: Report, env: gym.Env, steps: int, seed: int) -> Walk:
    """Walk through an environment at random, and examine all that it returns."""
    examiner, walk = Examiner(report, env), Walk(env, seed, report)
    until = time.monotonic() + PATIENCE
    before: tuple[Any, Any, str] | None = None  # an observation as it was returned, a copy of it, and when
    answer = walk.reset(seed)
    examiner.answer(answer, "reset", "")
    while walk.taken < steps and time.monotonic() < until:
        before = answer[0], copy.deepcopy(answer[0]), walk.where
        answer = walk.step(answer)
        examiner.answer(answer, "step", walk.where)
        if not same(before[0], before[1]):
            report.add(
                "alias",
                f"the observation{before[2]}",
                "it changed afterwards: step() writes into the same array again",
                "return a copy of it, as self.state.copy()",
                breaks=False,
            )
        if walk.over(answer):
            before = answer[0], copy.deepcopy(answer[0]), walk.where
            answer = walk.reset(None)
            examiner.answer(answer, "reset", f" after episode {walk.ended}")
            if not same(before[0], before[1]):
                report.add(
                    "alias",
                    f"the observation{before[2]}",
                    "it changed afterwards: reset() writes into the same array again",
                    "return a copy of it, as self.state.copy()",
                    breaks=False,
                )
    size = f"rewards are as {{}} as {examiner.largest:g}"
    if examiner.largest > LARGE_REWARD:
        report.add(
            "scale", "the reward", size.format("large"), "scale them, or use algo.normalize_reward=true", breaks=False
        )
    elif 0.0 < examiner.largest < SMALL_REWARD:
        report.add(
            "scale", "the reward", size.format("small"), "scale them, or use algo.normalize_reward=true", breaks=False
        )
    return walk
