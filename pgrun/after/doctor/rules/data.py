"""Rules on what an update learns from: observations, their normalisers, the replay, and the size of a batch."""

from __future__ import annotations

import numpy as np

from pgrun.after.doctor.evidence import Evidence, span
from pgrun.after.doctor.findings import Found, Rule

LARGE_INPUT, SMALL_INPUT = 50.0, 1e-3  # root mean square of the largest coordinate that a network is shown
STALE = 0.2  # share of the run's steps that a normaliser has to have seen
FULL = 0.999  # of a replay
SOON = 0.1  # of the run, by which a replay that is full is a small one
SMALL = 20  # times a replay is overwritten in a run, from which it is a small one
NOISY = 1.5  # gradient/snr of pure noise is 1
ENOUGH = 5  # points


def unscaled(run: Evidence) -> Found | None:
    """Find observations whose coordinates are far from 1, where no layer normalises them."""
    if run.setting("network.normalize_obs", False) is True or not run.has("obs/largest_rms"):
        return None
    size = float(np.median(run.values("obs/largest_rms")))
    if SMALL_INPUT <= size <= LARGE_INPUT:
        return None
    return Found(
        f"the largest coordinate of the observations has a root mean square of {size:.3g} (obs/largest_rms, "
        f"{span(run.curves['obs/largest_rms'])}), and network.normalize_obs is off",
        run.choose("network.normalize_obs=true"),
        "" if "network.normalize_obs" in run.config else "scale the observations to about 1 in the environment",
    )


def stale(run: Evidence) -> Found | None:
    """Find normalisers whose statistics no longer follow the run."""
    rows = run.values("network/normalizer_rows")
    if len(rows) < ENOUGH:
        return None
    steps = run.curves["network/normalizer_rows"].steps
    if rows[-1] >= STALE * steps[-1] and rows[-1] > rows[len(rows) // 2]:
        return None
    return Found(
        f"the network's running statistics are of {rows[-1]:,.0f} rows after {steps[-1]:,} steps, and of "
        f"{rows[len(rows) // 2]:,.0f} half-way (network/normalizer_rows)",
        otherwise="let the algorithm's update call model.observe(batch), as the shipped ones do",
    )


def never_fills(run: Evidence) -> Found | None:
    """Find a replay that was still filling at the end: nothing was learnt."""
    fill = run.values("memory/fill")
    learnt = bool(run.tags("loss/")) or bool(run.result.get("updates", 0))
    if not len(fill) or learnt:
        return None
    warmup = run.setting("memory.warmup", 0)
    less = max(min(1_000, run.steps // 10), 1)
    return Found(
        f"there was no update in {run.steps:,} steps: the replay is {fill[-1]:.2%} full, and memory.warmup={warmup} "
        "steps come first",
        run.choose(f"memory.warmup={less}"),
    )


def small_replay(run: Evidence) -> Found | None:
    """Find a replay that forgets almost at once."""
    fill, capacity = run.values("memory/fill"), run.number("memory.capacity")
    if run.learning or len(fill) < ENOUGH or capacity is None or run.steps < SMALL * capacity:
        return None
    if fill[max(int(SOON * len(fill)) - 1, 0)] < FULL:
        return None
    return Found(
        f"the replay is full from step {run.curves['memory/fill'].steps[0]:,} on and was overwritten "
        f"{run.steps / capacity:.0f} times (memory/fill, memory.capacity={capacity:.0f})",
        run.choose(f"memory.capacity={min(run.steps, 1_000_000)}"),
    )


def noisy(run: Evidence) -> Found | None:
    """Find gradients that are nearly all noise, where that was measured."""
    tags = [tag for tag in run.tags("gradient/snr") if run.has(tag, ENOUGH)]
    if run.learning or not tags:
        return None
    tag = min(tags, key=lambda each: float(np.median(run.values(each))))
    ratio = float(np.median(run.values(tag)))
    if ratio >= NOISY:
        return None
    larger = []
    for key, least in (("algo.rollout", 128), ("env.num_envs", 16), ("memory.batch_size", 256)):
        if (now := run.number(key)) is not None and now < least:
            larger.append(f"{'num_envs' if key == 'env.num_envs' else key}={least}")
    return Found(
        f"{tag} is {ratio:.2f} in the middle, where pure noise has 1: the batch is too small for its gradient's noise",
        tuple(larger),
        "" if larger else "take more steps for each update",
    )


RULES = (
    Rule(
        "observations-unscaled",
        "the observations are not normalised",
        "units that are far from 1 saturate a tanh, or leave it linear",
        "LeCun et al. 1998, Efficient BackProp, section 4.3; Andrychowicz et al. 2021, section 3.3",
        "https://arxiv.org/abs/2006.05990",
        unscaled,
    ),
    Rule(
        "normalizer-stale",
        "a normaliser has stopped following the observations",
        "the policy sees numbers of another scale than its statistics are of",
        "Andrychowicz et al. 2021, section 3.3",
        "https://arxiv.org/abs/2006.05990",
        stale,
    ),
    Rule(
        "replay-never-fills",
        "the replay never held enough to learn from",
        "updates begin after memory.warmup steps",
        "Lillicrap et al. 2016, DDPG, algorithm 1; Spinning Up, 'update_after'",
        "https://spinningup.openai.com/en/latest/algorithms/sac.html",
        never_fills,
    ),
    Rule(
        "replay-small",
        "the replay forgets too soon",
        "samples are then correlated, and of the latest policy alone",
        "Zhang & Sutton 2017; Fedus et al. 2020",
        "https://arxiv.org/abs/2007.06700",
        small_replay,
    ),
    Rule(
        "gradient-noisy",
        "the batch is too small for its gradient's noise",
        "steps then go at random, and cancel",
        "McCandlish et al. 2018, An empirical model of large-batch training",
        "https://arxiv.org/abs/1812.06162",
        noisy,
    ),
)
