"""Rules on the critic: values that explode, and values that explain nothing."""

from __future__ import annotations

import numpy as np

from pgrun.after.doctor.evidence import Evidence, span
from pgrun.after.doctor.findings import Found, Rule
from pgrun.after.doctor.rules.actions import lower_rate

BEYOND = 2.0  # times the largest value that the rewards allow
LONGEST = 1_000.0  # steps that γ = 1 counts as, at most
UNEXPLAINED = 0.05  # of the variance of the returns, in the middle of the run's second half
EVER = 0.2  # ... and at no point
ENOUGH = 6  # points


def explodes(run: Evidence) -> Found | None:
    """Find values beyond what any sequence of rewards can sum to."""
    q, largest = run.values("value/q"), run.values("reward/largest")
    if not len(q) or not len(largest):
        return None
    bound = horizon(run) * (float(largest.max()) + bonus(run))
    at = int(np.abs(q).argmax())
    if abs(q[at]) <= BEYOND * bound:
        return None
    slower = run.choose("algo.tau=0.005") if (run.number("algo.tau") or 0.0) > 0.05 else ()
    shorter = ("algo.gamma=0.99",) if (run.number("algo.gamma") or 0.0) > 0.995 else ()
    return Found(
        f"value/q is {q[at]:.3g} at step {run.curves['value/q'].steps[at]:,}; with rewards of at most "
        f"{largest.max():.3g} and {horizon(run):.0f} steps ahead no policy earns more than {bound:.3g}",
        (*slower, *shorter, *lower_rate(run), *run.choose("algo.critics=2", "algo.max_grad_norm=10.0")),
    )


def horizon(run: Evidence) -> float:
    """Return 1/(1 − γ); where γ is near 1, the mean length of the longest episodes, if that is less."""
    gamma = run.number("algo.gamma")
    if gamma is not None and gamma <= 1.0 - 1.0 / LONGEST:
        return 1.0 / (1.0 - gamma)
    return min(float(run.values("train/episode_length").max(initial=0.0)) or LONGEST, LONGEST)


def bonus(run: Evidence) -> float:
    """Return the largest entropy bonus of a step, α·H."""
    alpha, entropy = run.values("policy/temperature"), run.values("policy/entropy")
    return float(np.abs(alpha).max() * np.abs(entropy).max()) if len(alpha) and len(entropy) else 0.0


def unexplained(run: Evidence) -> Found | None:
    """Find a critic that never explains the returns."""
    tag = "value/explained_variance"
    if not run.has(tag, ENOUGH) or not run.values("reward/largest").max(initial=1.0):
        return None  # without rewards there is nothing to explain
    coefficient = run.number("algo.value_coef")
    if run.learning and coefficient != 0.0:
        return None
    late, best = float(np.median(run.late(tag))), float(run.values(tag)[1:].max())
    if late >= UNEXPLAINED or best >= EVER:
        return None
    more = ("algo.value_coef=0.5",) if coefficient is not None and coefficient < 0.5 else ()
    return Found(
        f"{tag} is {late:.2g} in the second half and {best:.2g} at best ({span(run.curves[tag])}), where 1 is a "
        "critic that knows the returns" + (f"; algo.value_coef={coefficient:g}" if coefficient is not None else ""),
        more or run.choose("network.normalize_obs=true", "algo.critic_lr=1e-3", "algo.normalize_reward=true"),
    )


RULES = (
    Rule(
        "value-explodes",
        "the values explode",
        "bootstrapped targets chase their own growth",
        "van Hasselt et al. 2018, Deep RL and the deadly triad; Fujimoto et al. 2018",
        "https://arxiv.org/abs/1812.02648",
        explodes,
    ),
    Rule(
        "critic-never-fits",
        "the critic explains nothing of the returns",
        "an advantage is then the return with noise added",
        "Huang et al. 2022, The 37 implementation details of PPO (explained variance)",
        "https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/",
        unexplained,
    ),
)
