"""Learning curves of groups: aligned, cut, held, and when they reach a threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from run_folders import run_folder

pytest.importorskip("scipy")

from pgrun.after.groups import grouped
from pgrun.after.learning_curves import GroupCurve, group_curve, reached, read_curves_of
from pgrun.after.records import read_runs


def curve_of(folder: Path) -> GroupCurve:
    records = read_runs(folder)
    (group,) = grouped(records)
    found = group_curve(group, {record.folder: read_curves_of(record) for record in records})
    assert found is not None
    return found


def test_the_same_steps_stay_as_they_are(tmp_path: Path) -> None:
    for seed in range(3):
        run_folder(tmp_path / str(seed), seed=seed, score=4.0 * seed)
    found = curve_of(tmp_path)
    assert found.steps.tolist() == [1000, 2000, 4000]
    assert found.values.tolist() == [[0, 0, 0], [1, 2, 4], [2, 4, 8]]
    assert found.band[0].tolist() == [1, 2, 4]
    assert found.worst == 0
    assert found.notes == ()


def test_other_steps_are_interpolated_and_it_is_said(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", seed=0, curve=[(0, 0.0), (1000, 10.0), (2000, 20.0)])
    run_folder(tmp_path / "b", seed=1, curve=[(500, 5.0), (1500, 15.0), (4000, 40.0)])
    found = curve_of(tmp_path)
    assert (found.steps[0], found.steps[-1]) == (500, 2000)
    assert np.allclose(found.values, found.steps / 100)
    assert "interpolated linearly" in found.notes[0]
    assert "2,000, where the shortest run ends" in found.notes[0]


def test_a_run_that_was_good_enough_is_held_to_the_end(tmp_path: Path) -> None:
    config = {"eval.stop_at": 50}
    run_folder(tmp_path / "a", seed=0, config=config, steps=1000, curve=[(500, 0.0), (1000, 50.0)])
    run_folder(tmp_path / "b", seed=1, config=config, curve=[(500, 0.0), (1000, 10.0), (4000, 40.0)])
    found = curve_of(tmp_path)
    assert found.steps[-1] == 4000
    assert found.values[:, -1].tolist() == [50.0, 40.0]
    assert any("eval.stop_at" in note for note in found.notes)


def test_a_single_seed_has_no_band(tmp_path: Path) -> None:
    run_folder(tmp_path / "a")
    assert len(curve_of(tmp_path).band) == 1


def test_when_a_threshold_is_reached(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", score=100.0)
    (record,) = read_runs(tmp_path)
    curves = read_curves_of(record)
    assert reached(record, curves, 50.0) == (2000.0, 4.0)
    assert reached(record, curves, 101.0) is None
    del curves["time/train_seconds"]
    assert reached(record, curves, 50.0) == (2000.0, 4.0)  # half of its 8 seconds
