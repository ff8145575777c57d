"""The figure's numbers are those of today's estimators."""

import csv
import math
import sys
from pathlib import Path

import estimator_study as study
import pytest
from pictures import lines, named_lines, picture, words


def test_the_figures_table_is_up_to_date(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["estimator_study.py", "--out", str(tmp_path)])
    figure = picture(tmp_path / "estimator_study.png", study.main)
    new, shipped = (
        list(csv.DictReader((folder / "estimator_study.csv").open()))
        for folder in (tmp_path, Path(study.__file__).parent / "results")
    )
    assert len(new) == len(shipped) > 80
    for row, old in zip(new, shipped, strict=True):
        assert [row[key] for key in ("panel", "estimator", "x")] == [old[key] for key in ("panel", "estimator", "x")]
        sampled = "− mean of" in row["estimator"]
        for key in ("bias", "deviation"):
            assert float(row[key]) == pytest.approx(float(old[key]), rel=0.01 if sampled else 0.0, abs=1e-5), row
    check_panels(figure, new)


def check_panels(figure, table):
    """Each panel shows its figures of the table, no others."""
    found = {}
    for row in table:
        point = float(row["x"]), float(row["bias"]), float(row["deviation"])
        found.setdefault(row["panel"], {}).setdefault(row["estimator"], []).append(point)
    bars, trade, horizon, batch = figure.axes
    lengths = {name: deviation for name, ((_, _, deviation),) in found["estimator"].items()}
    assert sorted(bar.get_width() for bar in bars.patches) == pytest.approx(sorted(lengths.values()), abs=1e-5)
    assert [word for word in words(bars) if word in lengths] == list(lengths)
    ((_, points),) = found["lambda"].items()
    lambdas, biases, deviations = zip(*points, strict=True)
    noises = [deviation / math.sqrt(study.BATCH) for deviation in deviations]
    errors = [math.hypot(bias, noise) for bias, noise in zip(biases, noises, strict=True)]
    best = errors.index(min(errors))
    check_lines(trade, (lambdas, errors), (lambdas, noises), (lambdas, biases), ([lambdas[best]], [errors[best]]))
    curves = [([x for x, _, _ in points], [y for _, _, y in points]) for points in found["horizon"].values()]
    dashed = next([bias for _, bias, _ in points] for name, points in found["horizon"].items() if "alone" in name)
    check_lines(horizon, *curves, (curves[0][0], dashed))
    drawn = named_lines(batch)
    assert drawn.keys() == found["batch"].keys()
    for name, points in found["batch"].items():
        for x, bias, deviation in points:
            nearest = min(zip(*drawn[name], strict=True), key=lambda point: abs(math.log(point[0] / x)))
            assert nearest == pytest.approx((x, math.hypot(bias, deviation)), rel=1e-3, abs=1e-5)


def check_lines(ax, *wanted):
    """A panel holds these lines, in any order."""
    drawn = sorted(lines(ax))
    for line, want in zip(drawn, sorted(([*x], [*y]) for x, y in wanted), strict=True):
        for ours, theirs in zip(line, want, strict=True):
            assert ours == pytest.approx(theirs, abs=2e-5)


def test_it_tells_biased_from_unbiased():
    for name, (unbiased, (bias, deviation)) in study.estimators(study.Study()).items():
        assert (bias < 1e-9) == unbiased, name
        assert deviation > 0.1
