"""Every combination of weights, Ψ, baseline, normalisation and collector that is not refused, by exact enumeration."""

import csv

import pytest
from estimator_bias import BASELINES, HEADER, OWN, RESULTS, combinations, lines, measure, table

CORRECTED = (OWN, "trajectory", "per_decision")  # what theory calls unbiased
CUT = {"advantage": "reward_to_go", "baseline": "none", "collector": "rollouts"}  # an open episode's rest is left out


def cut(row):
    return all(getattr(row, key) == value for key, value in CUT.items())


@pytest.fixture(scope="module")
def plain():
    """Those without normalisation."""
    return [measure(row, angle=False) for row in combinations() if row.normalize == "none"]


@pytest.mark.parametrize("weights", CORRECTED)
def test_no_combination_is_biased(plain, weights):
    rows = [row for row in plain if row.weights == weights and not row.refused]
    assert {row.collector for row in rows} == {"episodes", "rollouts"}
    assert {row.baseline for row in rows} == set(BASELINES)
    assert max(row.bias for row in rows if not cut(row)) < 1e-5
    assert all(row.bias > 0.01 for row in rows if cut(row))


def test_weights_of_one_step_or_none_are_biased(plain):
    rows = [row for row in plain if row.weights in ("per_step", "none") and not row.refused]
    assert all(row.bias > 0.1 for row in rows if row.advantage != "ones")


def test_normalisation_over_the_batch_changes_no_direction():
    """With many trajectories: it may scale, and shift by what has no mean under the policy that acted."""
    for row in combinations():
        if (row.weights, row.normalize, row.baseline) == ("per_decision", "batch", "none") and not cut(row):
            found = measure(row)
            assert found.refused or found.angle is None or found.angle < 0.05, found


def test_what_is_refused_has_no_meaning(plain):
    refused = {(row.weights, row.advantage) for row in plain if row.refused and row.baseline == "value"}
    per_decision = {("per_decision", name) for name in ("total_return", "mixture with total_return")}
    actions = {(weights, name) for weights in ("trajectory", "per_decision", "per_step", "none") for name in ("q", "a")}
    whole = {(OWN, "total_return"), ("trajectory", "total_return")}  # refused with collector=rollouts alone
    assert per_decision | actions | whole <= refused
    assert not {(row.weights, row.advantage) for row in plain if not row.refused} & (per_decision | actions)


@pytest.mark.slow
def test_the_table_is_what_the_script_measures():
    with RESULTS.open(newline="") as file:
        header, *kept = csv.reader(file)
    now = [list(line) for line in lines(table())]
    assert header == list(HEADER)
    assert [row[:-1] for row in kept] == [row[:-1] for row in now]
    # the arc of a cosine that float32 rounds: 1 − 1e-6 is 0.08 degrees already
    angles = [[float(row[-1] or "nan") for row in rows] for rows in (kept, now)]
    assert angles[0] == pytest.approx(angles[1], abs=0.11, nan_ok=True)
