"""Rules on the rewards that are learnt from, after wrappers and before any normalisation."""

from __future__ import annotations

import numpy as np

from pgrun.after.doctor.evidence import Evidence, span
from pgrun.after.doctor.findings import Found, Rule

SAME = 1e-6  # a spread below this share of the rewards' size is none
TINY = 1e-3  # rewards that never reach this are lost in the losses' rounding and the optimizer's ε
HUGE = 100.0  # root mean square of rewards from which a value loss drowns everything else
MOSTLY_NONE = 0.8  # share of points without a single reward


def constant(run: Evidence) -> Found | None:
    """Find rewards that are always 0, or always the same in episodes of one length."""
    if not run.has("reward/largest"):
        return None
    largest = run.values("reward/largest")
    where = span(run.curves["reward/largest"])
    if largest.max() == 0.0:
        return Found(
            f"reward/largest is 0 at all {len(largest)} points ({where}): no reward has ever been paid",
            otherwise="look at what the environment and its wrappers pay; a goal that is never met needs env/shaping, "
            "an easier start or more exploration",
        )
    spread = float(run.values("reward/std").max(initial=0.0))
    if not run.has("reward/std") or not run.has("reward/mean"):
        return None
    if spread <= SAME * largest.max() and np.ptp(run.values("reward/mean")) <= SAME and one_length(run):
        return Found(
            f"reward/std is 0 and reward/mean is {run.values('reward/mean')[-1]:.4g} at all {len(largest)} points "
            f"({where}), and no episode terminates: every policy earns the same",
            otherwise="let the reward tell a good action from a bad one",
        )
    return None


def one_length(run: Evidence) -> bool:
    """Whether all episodes are cut at one length."""
    shortest, longest = run.values("episode/shortest_truncated"), run.values("episode/longest_truncated")
    ended = run.values("episode/terminated")
    return bool(min(map(len, (shortest, longest, ended))) and ended.max() == 0.0 and shortest.min() == longest.max())


def sparse(run: Evidence) -> Found | None:
    """Find rewards that are almost never paid."""
    if run.learning or not run.has("reward/largest", 5):
        return None
    largest = run.values("reward/largest")
    none = float((largest == 0.0).mean())
    if not MOSTLY_NONE <= none < 1.0:
        return None
    return Found(
        f"reward/largest is 0 at {none:.0%} of {len(largest)} points: the goal is hardly ever met",
        run.choose("algo.entropy_coef=0.01", "collector.random_hold=10"),
        "env/shaping=distance (or coordinate, function) pays for the way to the goal",
    )


def tiny(run: Evidence) -> Found | None:
    """Find rewards too small to be told from rounding."""
    if run.setting("algo.normalize_reward", False) is True or not run.has("reward/largest"):
        return None
    largest = float(run.values("reward/largest").max())
    if not 0.0 < largest < TINY:
        return None
    return Found(
        f"reward/largest never exceeds {largest:.2g} ({span(run.curves['reward/largest'])}); under {TINY:g} a "
        "critic's start and an entropy bonus weigh more than the task",
        run.choose("algo.normalize_reward=true"),
        f"multiply the rewards by {10.0 ** -np.floor(np.log10(largest)):.0e}",
    )


def huge(run: Evidence) -> Found | None:
    """Find rewards so large that the value loss drowns the policy's."""
    unscaled = run.setting("algo.normalize_reward", False) is not True
    if not unscaled or not run.has("reward/mean") or not run.has("reward/std"):
        return None
    size = float(np.median(np.hypot(run.values("reward/mean"), run.values("reward/std"))))
    if size < HUGE:
        return None
    return Found(
        f"the rewards' root mean square is {size:.3g} ({span(run.curves['reward/mean'])}); from {HUGE:g} on, the value "
        "loss and its gradient drown the policy's",
        run.choose("algo.normalize_reward=true"),
        f"multiply the rewards by {10.0 ** -np.floor(np.log10(size)):.0e}",
    )


RULES = (
    Rule(
        "rewards-constant",
        "the rewards never differ",
        "a policy gradient is a covariance of scores and returns: with equal returns it is zero",
        "Sutton & Barto 2018, section 13.4",
        "https://mitpress.mit.edu/9780262039246/reinforcement-learning/",
        constant,
    ),
    Rule(
        "rewards-sparse",
        "there is hardly ever a reward",
        "without rewards there is nothing to tell actions apart by",
        "Ng, Harada & Russell 1999, potential-based shaping",
        "https://people.eecs.berkeley.edu/~russell/papers/icml99-shaping.pdf",
        sparse,
    ),
    Rule(
        "rewards-tiny",
        "the rewards are tiny",
        "losses and bonuses have a scale: what is far below it isn't seen",
        "Henderson et al. 2018, section 'Reward scale'; Haarnoja et al. 2018, section 5.2",
        "https://arxiv.org/abs/1709.06560",
        tiny,
    ),
    Rule(
        "rewards-huge",
        "the rewards are out of scale",
        "errors of the value grow with them, clipped gradients then hold only the critic's",
        "van Hasselt et al. 2016, Pop-Art; Engstrom et al. 2020, section 3",
        "https://arxiv.org/abs/1602.07714",
        huge,
    ),
)
