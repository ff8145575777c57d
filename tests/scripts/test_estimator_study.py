"""The figure's numbers are those of today's estimators."""

import csv
import sys
from pathlib import Path

import estimator_study as study
import pytest


def test_the_figures_table_is_up_to_date(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["estimator_study.py", "--out", str(tmp_path)])
    study.main()
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
    assert 20_000 < (tmp_path / "estimator_study.png").stat().st_size < 250_000


def test_it_tells_biased_from_unbiased():
    for name, (unbiased, (bias, deviation)) in study.estimators(study.Study()).items():
        assert (bias < 1e-9) == unbiased, name
        assert deviation > 0.1
