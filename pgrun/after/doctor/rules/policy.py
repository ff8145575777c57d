"""Rules on the policy's entropy."""

from __future__ import annotations

import math

import numpy as np

from pgrun.after.doctor.evidence import Evidence, span
from pgrun.after.doctor.findings import Found, Rule
from pgrun.after.doctor.rules.actions import lower_rate

COLLAPSED = 0.02  # of a uniform policy's entropy, discrete actions
COLLAPSED_NATS = 4.0  # below a uniform policy's entropy, a coordinate of a Box: noise of a fiftieth of the range
UNIFORM = 0.98  # of a uniform policy's entropy, discrete actions
RISEN_NATS = 0.1  # rise of the entropy, a coordinate of a Box
STILL = 1e-6  # KL of a policy that doesn't move at all, which is another finding
ENOUGH = 5  # points


def collapsed(run: Evidence) -> Found | None:
    """Find an entropy near 0 (or noise near none) while the run doesn't learn, or from its start."""
    if not run.has("policy/entropy", ENOUGH) or not run.has("action/uniform_entropy", 1):
        return None
    entropy, uniform = run.values("policy/entropy"), float(run.values("action/uniform_entropy")[0])
    late = float(np.median(run.late("policy/entropy")))
    if run.has("action/most_taken", 1):
        low = late < COLLAPSED * uniform
        limit = COLLAPSED * uniform
    else:
        limit = uniform - COLLAPSED_NATS * coordinates(uniform)
        low = late < limit
    started_low = float(np.median(entropy[: max(1, len(entropy) // 4)])) < limit  # nothing learnt has earned that
    if not low or (run.learning and not started_low):
        return None
    return Found(
        f"policy/entropy goes from {entropy[0]:.3g} to {late:.3g} ({span(run.curves['policy/entropy'])}); a uniform "
        f"policy has {uniform:.3g}, and under {limit:.3g} nothing new is tried",
        (
            *run.choose("algo.entropy_coef=0.01"),
            *(run.choose("network.log_std_init=0.0") if (run.number("network.log_std_init") or 0.0) < -2.0 else ()),
            *lower_rate(run),
        ),
    )


def never_falls(run: Evidence) -> Found | None:
    """Find a policy that moves but stays uniform, or gets wider, while the run doesn't learn."""
    if run.learning or not run.has("policy/entropy", ENOUGH) or not run.has("action/uniform_entropy", 1):
        return None
    if run.has("policy/kl") and float(np.median(run.values("policy/kl"))) < STILL:
        return None
    entropy, uniform = run.values("policy/entropy"), float(run.values("action/uniform_entropy")[0])
    late = float(np.median(run.late("policy/entropy")))
    if run.has("action/most_taken", 1):
        high = late >= UNIFORM * uniform
    else:
        high = late >= uniform and late - entropy[0] >= RISEN_NATS * coordinates(uniform)
    if not high:
        return None
    bonus = run.number("algo.entropy_coef") or 0.0
    return Found(
        f"policy/entropy goes from {entropy[0]:.3g} to {late:.3g} ({span(run.curves['policy/entropy'])}); a uniform "
        f"policy has {uniform:.3g}" + (f", and algo.entropy_coef={bonus:g} pays for it" if bonus else ""),
        run.choose("algo.entropy_coef=0.0") if bonus else raise_rate(run),
        "" if bonus else "the return doesn't tell actions apart: look at the rewards and at the other findings",
    )


def coordinates(uniform: float) -> float:
    """Return how many action coordinates a Box has, from the entropy of a uniform policy on [−1, 1]^n."""
    return uniform / math.log(2.0)


def raise_rate(run: Evidence) -> tuple[str, ...]:
    """Return a word for a larger learning rate, where it is small."""
    now = run.number("optimizer.lr")
    return (f"optimizer.lr={now * 3:.1g}",) if now is not None and now < 1e-3 else ()


RULES = (
    Rule(
        "entropy-collapsed",
        "the policy has stopped exploring",
        "with hardly any noise left, the gradient sees no other action than the one that is taken",
        "Williams & Peng 1991; Mnih et al. 2016, section 4",
        "https://arxiv.org/abs/1602.01783",
        collapsed,
    ),
    Rule(
        "entropy-never-falls",
        "the policy stays as random as it began",
        "an entropy bonus that outweighs the return, or a return that tells nothing",
        "Ahmed et al. 2019, Understanding the impact of entropy on policy optimization",
        "https://arxiv.org/abs/1811.11214",
        never_falls,
    ),
)
