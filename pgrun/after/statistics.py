"""Statistics of few runs: aggregates, their bootstrap intervals, performance profiles, probability of improvement.

The estimates are those of Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264). Scores are lists of arrays: one array
for each environment, of its runs, however many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Scores = Sequence[np.ndarray]  # for each environment, the scores of its runs
RESAMPLES = 2000
LEVEL = 0.95
CHUNK = 200_000  # numbers that are sorted at once


class Estimate(NamedTuple):
    """A statistic with its interval, which is None where there are too few runs."""

    value: float
    low: float | None = None
    high: float | None = None


def iqm(scores: Scores) -> float:
    """Return the interquartile mean over all runs of all environments."""
    return float(trimmed(np.concatenate(list(scores)), axis=0))


def mean(scores: Scores) -> float:
    """Return the mean over environments of the mean over runs."""
    return float(np.mean([np.mean(x) for x in scores]))


def median(scores: Scores) -> float:
    """Return the median over environments of the mean over runs."""
    return float(np.median([np.mean(x) for x in scores]))


def optimality_gap(scores: Scores, goal: float = 1.0) -> float:
    """Return by how much runs fall short of the goal on average; what is beyond it does not count."""
    return goal - mean([np.minimum(x, goal) for x in scores])


def improvement(scores: Scores, others: Scores) -> float:
    """Return the probability that a run is better than a run of the others', averaged over environments."""
    return float(np.mean([better(x, y) for x, y in zip(scores, others, strict=True)]))


def better(x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of pairs in which the first is greater; equal ones count half."""
    difference = np.asarray(x)[:, None] - np.asarray(y)[None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """Return the share of runs above each threshold [K], averaged over environments."""
    return np.mean([np.mean(np.asarray(x)[:, None] > thresholds, axis=0) for x in scores], axis=0)


def estimate(
    statistic: Callable[[Scores], float], scores: Scores, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Estimate a statistic with its interval, by a stratified bootstrap: runs are drawn anew within each environment.

    Args:
        statistic: of scores.
        scores: for each environment, of its runs.
        resamples: how many times runs are drawn.
        seed: of the draws.
    """
    value = statistic(scores)
    if min(map(len, scores)) < 2:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    draws = [np.asarray(x)[rng.integers(len(x), size=(resamples, len(x)))] for x in scores]
    values = [statistic([x[row] for x in draws]) for row in range(resamples)]
    low, high = np.quantile(values, tails(scores))
    return Estimate(value, float(low), float(high))


def estimate_improvement(scores: Scores, others: Scores, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Estimate the probability of improvement with its interval."""
    both = [*scores, *others]
    half = len(scores)
    return estimate(lambda drawn: improvement(drawn[:half], drawn[half:]), both, resamples=resamples, seed=seed)


def estimate_difference(scores: Scores, others: Scores, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Estimate how much greater the interquartile mean is than the others', with its interval."""
    both = [*scores, *others]
    half = len(scores)
    return estimate(lambda drawn: iqm(drawn[:half]) - iqm(drawn[half:]), both, resamples=resamples, seed=seed)


def tails(scores: Scores) -> tuple[float, float]:
    """Return the quantiles of a bootstrap distribution between which its interval lies.

    Of few runs a plain percentile interval is too narrow: the bootstrap's variance is (n − 1)/n of the right one, and
    it knows nothing of Student's t. Hesterberg 2015 (https://arxiv.org/abs/1411.5279) moves the quantiles outwards by
    both. Of three runs even the farthest draws cover but three quarters.
    """
    sizes = np.array([len(x) for x in scores], dtype=float)
    inflation = float(np.sqrt(np.mean(sizes / (sizes - 1))))
    z = inflation * float(stats.t.ppf((1 + LEVEL) / 2, df=float(np.sum(sizes - 1))))
    tail = float(stats.norm.sf(z))
    return tail, 1 - tail


def iqm_band(values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Compute the interquartile mean over runs at each point, and the band of its intervals.

    Whole runs are drawn anew, so that neighbouring points belong together.

    Args:
        values: [runs, K].
        resamples: how many times runs are drawn.
        seed: of the draws.

    Returns:
        The mean [K], the band's lower and upper end [K]; of one run, the mean alone.
    """
    runs, points = values.shape
    middle = trimmed(values, axis=0)
    if runs < 2:
        return (middle,)
    draws = np.random.default_rng(seed).integers(runs, size=(resamples, runs))
    width = max(1, CHUNK // (resamples * runs))
    parts = [trimmed(values[:, at : at + width][draws], axis=1) for at in range(0, points, width)]
    low, high = np.quantile(np.concatenate(parts, axis=1), tails([values[:, 0]]), axis=0)
    return middle, low, high


def trimmed(values: np.ndarray, axis: int) -> np.ndarray:
    """Compute the interquartile mean along an axis."""
    n = values.shape[axis]
    cut = int(0.25 * n)
    kept = values if cut == 0 else np.partition(values, (cut, n - cut - 1), axis=axis)
    return np.asarray(np.take(kept, np.arange(cut, n - cut), axis=axis).mean(axis=axis))
