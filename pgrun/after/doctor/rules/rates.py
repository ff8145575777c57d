"""Rules on how far updates move the policy: learning rates too high or too low."""

from __future__ import annotations

import numpy as np

from pgrun.after.doctor.evidence import Evidence, span
from pgrun.after.doctor.findings import Found, Rule
from pgrun.after.doctor.rules.actions import lower_rate

HIGH_KL = 0.1  # nats in the middle of the run's updates; healthy ones have 0.01 to 0.03
SPIKE_KL = 0.5  # nats in one point's updates
SPIKE = 20.0  # times the middle
HIGH_CLIP = 0.5  # share of ratios outside the clip range, in the middle
LOW_KL = 1e-6  # nats in the middle: the policy stands still
NEAR = 1e-2  # the farthest that any parameter can have gone, in a run that stands still
ENOUGH = 3  # points


def high(run: Evidence) -> Found | None:
    """Find updates that move the policy too far."""
    if run.learning:
        return None
    kl, clipped = run.values("policy/kl"), run.values("policy/clip_fraction")
    if len(kl) >= ENOUGH and (middle := float(np.median(kl))) > HIGH_KL:
        said = f"policy/kl is {middle:.2g} in the middle ({span(run.curves['policy/kl'])}), where 0.01 to 0.03 is usual"
    elif len(clipped) >= ENOUGH and (middle := float(np.median(clipped))) > HIGH_CLIP:
        said = f"policy/clip_fraction is {middle:.0%} in the middle: most ratios leave the clip range"
    elif len(kl) >= ENOUGH and (first := float(beginning(kl).max())) > SPIKE_KL:
        said = f"policy/kl is {first:.2g} in the run's first quarter, where 0.01 to 0.03 is usual: the start was undone"
    else:
        return None
    return Found(said, lower_rate(run))


def spikes(run: Evidence) -> Found | None:
    """Find single updates that move the policy much farther than the others."""
    kl = run.values("policy/kl")
    if run.learning or len(kl) < ENOUGH or kl.max() <= SPIKE_KL or beginning(kl).max() > SPIKE_KL:
        return None
    if kl.max() < SPIKE * float(np.median(kl)):
        return None
    at = int(kl.argmax())
    return Found(
        f"policy/kl is {kl[at]:.2g} at step {run.curves['policy/kl'].steps[at]:,}, and {np.median(kl):.2g} in the "
        "middle",
        (*lower_rate(run), *run.choose("algo.kl_stop=0.03", "algo.max_grad_norm=0.5")),
    )


def beginning(values: np.ndarray) -> np.ndarray:
    """Return the first quarter of a curve's values, at least one."""
    return values[: max(1, len(values) // 4)]


def low(run: Evidence) -> Found | None:
    """Find updates that don't move the policy."""
    if run.learning:
        return None
    if run.has("policy/kl"):
        middle = float(np.median(np.abs(run.values("policy/kl"))))
        if middle < LOW_KL and small_steps(run) is not None:
            return Found(
                f"policy/kl is {middle:.1g} in the middle ({span(run.curves['policy/kl'])}): the policy stands still; "
                f"{small_steps(run)}",
                ("optimizer.lr=3e-4",) if run.number("optimizer.lr") is not None else (),
            )
        return None
    far = small_steps(run)
    updates = int(run.result.get("updates") or 0)
    rate = largest_rate(run)
    if far is None or not updates or rate is None or rate * updates >= NEAR:
        return None
    return Found(
        f"{updates:,} updates at a learning rate of {rate:.1g} move no parameter farther than {rate * updates:.1g}",
        ("optimizer.lr=3e-4",) if run.number("optimizer.lr") is not None else (),
    )


SMALL_RATE = 1e-5  # a learning rate under which normalised optimizers hardly move in a run of usual length


def small_steps(run: Evidence) -> str | None:
    """Say how small the learning rate is; None where it isn't, or isn't logged."""
    rate = largest_rate(run)
    return None if rate is None or rate > SMALL_RATE else f"the learning rate is {rate:.1g}"


def largest_rate(run: Evidence) -> float | None:
    """Return the largest learning rate that was ever used; None where none is logged."""
    rates = [float(run.values(tag).max()) for tag in run.tags("schedule/lr") if run.has(tag, 1)]
    return max(rates, default=None)


RULES = (
    Rule(
        "learning-rate-high",
        "updates move the policy too far: the learning rate is too high",
        "the next rollout then comes from a policy that the gradient was not of",
        "Schulman et al. 2015 and 2017; Huang et al. 2022, The 37 implementation details of PPO",
        "https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/",
        high,
    ),
    Rule(
        "kl-spikes",
        "single updates throw the policy far off",
        "one bad step can undo all before it",
        "Schulman et al. 2015, TRPO, section 1; Spinning Up, PPO's early stopping",
        "https://arxiv.org/abs/1502.05477",
        spikes,
    ),
    Rule(
        "learning-rate-low",
        "updates hardly move anything: the learning rate is too low",
        "the policy at the end is the one of the start",
        "Andrychowicz et al. 2021, section 3.7; Bengio 2012, section 3.1",
        "https://arxiv.org/abs/2006.05990",
        low,
    ),
)
