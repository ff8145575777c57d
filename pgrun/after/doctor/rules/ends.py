"""Rules on how episodes end: a time limit is no death, and a death is no time limit."""

from __future__ import annotations

import numpy as np

from pgrun.after.doctor.evidence import Evidence
from pgrun.after.doctor.findings import Found, Rule

SHORTEST_LIMIT = 10  # steps; a shorter episode of fixed length is rather a task than a limit
AT_LIMIT = 0.25  # share of terminations that have exactly the longest length
DIFFERENT = 0.9  # of the longest truncated episode: a shorter one was not cut by the same limit
ENOUGH = 3  # points


def limit_as_death(run: Evidence) -> Found | None:
    """Find many terminations at exactly one length, which is the longest."""
    longest, share = run.late("episode/longest_terminated"), run.late("episode/terminated_at_longest")
    if len(longest) < ENOUGH or len(share) != len(longest) or run.has("episode/shortest_truncated", 1):
        return None
    limit = float(longest.max())
    at_limit = longest == limit
    mean = float(np.where(at_limit, share, 0.0).mean())
    if limit < SHORTEST_LIMIT or at_limit.mean() < 0.5 or mean < AT_LIMIT:
        return None
    return Found(
        f"{mean:.0%} of the episodes in the run's second half terminate after exactly {limit:.0f} steps, the longest "
        "there is (episode/terminated_at_longest), and none is truncated",
        (f"env.max_episode_steps={limit:.0f}",),
        "let the environment report its time limit as truncated, not as terminated; if the task really ends "
        "there, put the time left into the observation",
    )


def death_as_limit(run: Evidence) -> Found | None:
    """Find truncations at many lengths and not one termination."""
    shortest, longest = run.values("episode/shortest_truncated"), run.values("episode/longest_truncated")
    ended = run.values("episode/terminated")
    if min(len(shortest), len(longest), len(ended)) < ENOUGH or ended.max() > 0.0:
        return None
    apart = float((shortest < DIFFERENT * longest.max()).mean())
    if apart < 0.5:
        return None
    return Found(
        f"no episode terminates, and truncated ones have from {shortest.min():.0f} to {longest.max():.0f} steps: "
        "a time limit would have one length (episode/shortest_truncated, episode/longest_truncated)",
        otherwise="let the environment report a failure as terminated: now its value is bootstrapped, as if one "
        "could go on from there",
    )


PARDO = ("Pardo et al. 2018, Time limits in reinforcement learning", "https://arxiv.org/abs/1712.00378")
RULES = (
    Rule(
        "time-limit-as-death",
        "a time limit counts as death",
        "the last states get the value 0, though nothing about them is bad",
        *PARDO,
        limit_as_death,
    ),
    Rule(
        "death-as-time-limit",
        "death counts as a time limit",
        "to fail costs nothing when the value goes on beyond it",
        *PARDO,
        death_as_limit,
    ),
)
