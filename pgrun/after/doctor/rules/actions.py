"""Rules on the actions that are taken."""

from __future__ import annotations

import numpy as np

from pgrun.after.doctor.evidence import Evidence, span
from pgrun.after.doctor.findings import Found, Rule

MOSTLY = 0.8  # share of coordinates at a bound, in the middle of the run's points
ALWAYS = 0.99  # share of the action that is taken most
ENOUGH = 5  # points


def at_bounds(run: Evidence) -> Found | None:
    """Find actions that are nearly always clipped, or at a bound."""
    if run.learning or not run.has("action/at_bounds"):
        return None
    share = float(np.median(run.values("action/at_bounds")))
    if share < MOSTLY:
        return None
    sigma = run.number("algo.exploration.sigma")
    smaller = (f"algo.exploration.sigma={min(0.1, (sigma or 1.0) / 10):g}",) if sigma else ()
    squash = run.choose("network.squash=true") if "algo.entropy_coef" in run.config else ()
    return Found(
        f"{share:.0%} of all action coordinates are at a bound or beyond it (action/at_bounds, "
        f"{span(run.curves['action/at_bounds'])})",
        (*smaller, *run.choose("network.log_std_init=-0.5"), *squash),
        "" if smaller or "network.log_std_init" in run.config else "make the policy's noise smaller",
    )


def one_action(run: Evidence) -> Found | None:
    """Find a policy that always takes one of its discrete actions."""
    if run.learning or not run.has("action/most_taken", ENOUGH):
        return None
    share = float(np.median(run.late("action/most_taken")))
    if share < ALWAYS:
        return None
    return Found(
        f"one action is {share:.1%} of all that are taken in the run's second half (action/most_taken)",
        (*run.choose("algo.entropy_coef=0.01"), *lower_rate(run)),
    )


def lower_rate(run: Evidence) -> tuple[str, ...]:
    """Return a word for a smaller learning rate, a tenth of now but at most 3e-4."""
    now = run.number("optimizer.lr")
    return () if now is None else (f"optimizer.lr={min(now / 10, 3e-4):.1g}",)


RULES = (
    Rule(
        "actions-at-bounds",
        "the actions are nearly always clipped",
        "beyond a bound all actions are one, and the gradient knows nothing of it",
        "Chou et al. 2017, section 3; Fujita & Maeda 2018, Clipped action policy gradient",
        "https://arxiv.org/abs/1802.07564",
        at_bounds,
    ),
    Rule(
        "one-action",
        "one action is always taken",
        "what is never tried is never learnt",
        "Mnih et al. 2016, section 4, on the entropy bonus",
        "https://arxiv.org/abs/1602.01783",
        one_action,
    ),
)
