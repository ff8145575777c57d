"""Aggregates and their intervals, against rliable's and against a simulation."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from pgrun.after import statistics

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5, 7, 10, 23])
def test_point_estimates_are_those_of_rliable(runs: int) -> None:
    metrics = pytest.importorskip("rliable.metrics")
    a, b = RNG.normal(0.6, 0.4, size=(runs, 5)).round(1), RNG.normal(0.7, 0.4, size=(runs + 1, 5)).round(1)
    mine, other = list(a.T), list(b.T)
    assert statistics.iqm(mine) == pytest.approx(metrics.aggregate_iqm(a), abs=1e-9)
    assert statistics.mean(mine) == pytest.approx(metrics.aggregate_mean(a), abs=1e-9)
    assert statistics.median(mine) == pytest.approx(metrics.aggregate_median(a), abs=1e-9)
    assert statistics.optimality_gap(mine) == pytest.approx(metrics.aggregate_optimality_gap(a), abs=1e-9)
    if runs > 1:
        expected = metrics.probability_of_improvement(a, b)
        assert statistics.improvement(mine, other) == pytest.approx(expected, abs=1e-9)


def test_known_by_hand() -> None:
    scores = [np.array([0.0, 1, 2, 3, 100]), np.array([4.0, 5, 6])]
    assert statistics.iqm(scores) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert statistics.mean(scores) == pytest.approx((106 / 5 + 5) / 2)
    assert statistics.better(np.array([1.0, 2]), np.array([1.0, 0])) == (0.5 + 1 + 1 + 1) / 4
    assert statistics.profile(scores, np.array([2.0])).tolist() == [(2 / 5 + 1) / 2]


def test_one_run_has_no_interval() -> None:
    assert statistics.estimate(statistics.iqm, [np.array([3.0])]) == (3.0, None, None)
    assert len(statistics.iqm_band(np.ones((1, 4)))) == 1


def test_the_band_is_the_interval_at_each_point() -> None:
    values = RNG.normal(size=(6, 3))
    middle, low, high = statistics.iqm_band(values, resamples=400)
    assert middle == pytest.approx([statistics.iqm([column]) for column in values.T])
    for number, column in enumerate(values.T):
        one = statistics.estimate(statistics.iqm, [column], resamples=4000)
        assert (low[number], high[number]) == pytest.approx((one.low, one.high), abs=0.35 * float(np.ptp(column)))
        assert low[number] < middle[number] < high[number]


@pytest.mark.slow
@pytest.mark.parametrize(("runs", "envs", "least"), [(3, 1, 0.64), (5, 1, 0.87), (10, 1, 0.915), (5, 3, 0.90)])
def test_intervals_cover_what_they_say(runs: int, envs: int, least: float) -> None:
    rng = np.random.default_rng(runs)
    hits = []
    for trial in range(400):
        low, high = statistics.estimate(statistics.iqm, list(rng.normal(size=(envs, runs))), resamples=500, seed=trial)[
            1:
        ]
        assert low is not None
        assert high is not None
        hits.append(low <= 0 <= high)
    assert least <= np.mean(hits) <= 0.99
