"""Comparisons of walks: whether a seed decides an episode, whether copies are apart; and Gymnasium's own checker."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gymnasium as gym
from gymnasium.utils.env_checker import check_env

from pgrun.envs.checkup.findings import Report
from pgrun.envs.checkup.walk import Walk, same
from pgrun.errors import told
from pgrun.system.randomness import own_randomness

STEPS = 100  # of each walk that is compared
SEEDED = (
    "begin reset() with super().reset(seed=seed), draw all that is random from self.np_random, and reset all attributes"
)
# Of what Gymnasium's checker says: what is no fault here, or is examined here by itself.
LEFT_OUT = (
    r"infinity|symmetric and normalized|different from the unwrapped|[Rr]ender|`spec`|share an object",
    r"not within the observation space|equivalent|not equal although|was not a tuple|2-tuple|is deprecated",
    r"was not a dictionary|Casting input|Expects `t|should be a|must be a|was expecting|The reward",
    r"maximum and minimum values are equal",
)


def trace(walk: Walk, seed: int) -> list[Any]:
    """Walk for some steps from a seed; return what each call returned: [observation, reward, terminated, truncated]."""
    answer = walk.reset(seed)
    rows: list[Any] = [[copy.deepcopy(answer[0]), 0.0, False, False]]
    for _ in range(STEPS):
        answer = walk.step(answer)
        rows.append(copy.deepcopy(list(answer[:4])))
        if walk.over(answer):
            answer = walk.reset(None)
            rows.append([copy.deepcopy(answer[0]), 0.0, False, False])
    return rows


def difference(one: list[Any], other: list[Any]) -> str:
    """Say where two traces differ first; "" if nowhere."""
    for t, (a, b) in enumerate(zip(one, other, strict=False)):
        for i, what in enumerate(("observation", "reward", "terminated", "truncated")):
            if not same(a[i], b[i]):
                return "it begins with another observation" if not t else f"{what} differs at step {t}"
    return "" if len(one) == len(other) else "its episodes have other lengths"


def check_repeats(report: Report, env: gym.Env, make: Callable[[], gym.Env], seed: int) -> None:
    """Check that a seed and the actions decide an episode, in this copy and in another."""
    traces = []
    for generators in (1, 1, 2):
        with own_randomness(generators):
            traces.append(trace(Walk(env, seed, report), seed))
    how = f"reset(seed={seed})"
    if said := difference(traces[0], traces[1]):
        report.add("repeats", how, f"a second episode from the same seed with the same actions differs: {said}", SEEDED)
    elif said := difference(traces[0], traces[2]):
        report.add(
            "global",
            how,
            f"its episodes depend on the process's random generators, not on the seed alone: {said}",
            SEEDED,
            breaks=False,
        )
    else:
        with own_randomness(1), closing(make()) as other:
            if said := difference(traces[0], trace(Walk(other, seed, report), seed)):
                report.add(
                    "repeats",
                    how,
                    f"another copy plays another episode from the same seed with the same actions: {said}",
                    SEEDED,
                )


def check_apart(report: Report, make: Callable[[], gym.Env], seed: int) -> None:
    """Check that a copy is as it would be alone when another one is stepped beside it."""
    if {"repeats", "global"} & report.known:
        return
    with closing(make()) as first, closing(make()) as second:
        alone = trace(Walk(first, seed, report), seed)
        walk, beside = Walk(first, seed, report), Walk(second, seed + 1, report)
        answer, other = walk.reset(seed), beside.reset(seed + 1)
        rows: list[Any] = [[copy.deepcopy(answer[0]), 0.0, False, False]]
        for _ in range(STEPS):
            other = beside.step(other)
            if beside.over(other):
                other = beside.reset(None)
            answer = walk.step(answer)
            rows.append(copy.deepcopy(list(answer[:4])))
            if walk.over(answer):
                answer = walk.reset(None)
                rows.append([copy.deepcopy(answer[0]), 0.0, False, False])
    if said := difference(alone, rows):
        report.add(
            "apart",
            "two copies in one process",
            f"a copy behaves differently when a second one is stepped beside it: {said}",
            "keep state in attributes of self, not of the class or the module",
        )


def gymnasiums_own(report: Report, env: gym.Env) -> None:
    """Run Gymnasium's checker, and add what isn't examined here by itself."""
    left_out = re.compile("|".join(LEFT_OUT))
    texts = []
    with warnings.catch_warnings(record=True) as caught, closing(env), own_randomness(0):
        warnings.simplefilter("always")
        try:
            check_env(env.unwrapped, skip_render_check=True, skip_close_check=True)
        except (Exception, SystemExit) as error:
            texts.append(str(error) if isinstance(error, (AssertionError, gym.error.Error)) else told(error))
    texts += [
        str(warning.message)
        for warning in caught
        if "gymnasium" in str(warning.category) or "WARN" in str(warning.message)
    ]
    for text in texts:
        plain = re.sub(r"\x1b\[[\d;]*m", "", text).strip().removeprefix("WARN: ")
        if left_out.search(plain):
            continue
        if "super().reset" in plain or "_np_random" in plain or "np_random" in plain:
            if "repeats" not in report.known:
                report.add(
                    "np_random",
                    "reset()",
                    "it doesn't seed self.np_random, from which Gymnasium's own parts draw",
                    "begin it with super().reset(seed=seed)",
                    breaks=False,
                )
        else:
            report.add(plain[:40], "Gymnasium's checker", plain.split(". ")[0], breaks=False)
