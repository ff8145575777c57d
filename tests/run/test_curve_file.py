"""Curves in a small file: thinned as they grow, resumed, torn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from running import new_run

from pgrun.run import checkpoint
from pgrun.run.curve_file import FILE, POINTS, Curve, CurveRecorder, Thinned, read_curve_file
from pgrun.run.curves import read_curves

SHORT = ("algo=ppo", "env=cartpole", "tuned=none", "num_envs=2", "algo.rollout=16", "algo.minibatch=16")
EVALUATED = ("eval.every=64", "eval.episodes=1", "eval.final_episodes=1", "eval.max_steps=20", "log.every=32")


def test_a_long_curve_keeps_points_at_even_distances_and_its_end() -> None:
    curve = Thinned()
    for step in range(1, 10_001):
        curve.add(step, float(step))
    steps, values = curve.points()
    assert len(steps) <= POINTS
    assert len(steps) > POINTS / 3
    assert (steps[0], steps[-1]) == (1, 10_000)
    assert len(set(np.diff(steps[:-1]).tolist())) == 1
    assert values.tolist() == steps.tolist()


def test_a_step_s_second_value_counts() -> None:
    curve = Thinned()
    for step, value in ((1, 1.0), (2, 2.0), (2, 3.0)):
        curve.add(step, value)
    assert [part.tolist() for part in curve.points()] == [[1, 2], [1.0, 3.0]]


def test_points_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    earlier = {"eval/return": Curve(np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0]))}
    recorder = CurveRecorder(earlier, start=2)
    recorder.add("eval/return", 9.0, 4)
    recorder.write(tmp_path)
    found = read_curve_file(tmp_path)
    assert found is not None
    assert found["eval/return"].steps.tolist() == [1, 2, 4]


def test_a_torn_or_missing_file_is_none(tmp_path: Path) -> None:
    assert read_curve_file(tmp_path) is None
    CurveRecorder({"a": Curve(np.array([1]), np.array([1.0]))}, 1).write(tmp_path)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:50])
    assert read_curve_file(tmp_path) is None


def test_a_run_and_its_continuation_end_with_the_curves_of_tensorboard(tmp_path: Path) -> None:
    new_run(tmp_path, *SHORT, *EVALUATED, "total_steps=128").execute()
    state = checkpoint.load(tmp_path / "checkpoints" / "latest.pt")
    new_run(tmp_path, *SHORT, *EVALUATED, "total_steps=256", resume=state).execute()
    found, events = read_curve_file(tmp_path), read_curves(tmp_path)
    assert found is not None
    assert set(found) == set(events)
    for tag, curve in events.items():
        assert found[tag].steps.tolist() == curve.steps.tolist(), tag
        assert np.allclose(found[tag].values, curve.values, rtol=1e-6), tag
    steps = found["eval/return"].steps
    assert len(steps) == 4
    assert (np.diff(steps) > 0).all()
