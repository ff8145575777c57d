"""Learning curves of a group of runs: aligned, averaged, and asked when they reach a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pgrun.after.groups import Group, score
from pgrun.after.records import Record
from pgrun.after.statistics import iqm_band
from pgrun.run.curve_file import Curve, CurveRecorder, read_curve_file

EVALUATED, TRAINED, SECONDS = "eval/return", "train/return", "time/train_seconds"
GRID = 120  # points of a common grid


@dataclass(frozen=True)
class GroupCurve:
    """The curve of a group, on steps that its runs have in common.

    Attributes:
        steps: [K], environment steps.
        values: [runs, K], of the runs that are counted.
        band: the interquartile mean [K], and the ends of its interval [K] where there are several runs.
        worst: the number of the run with the lowest score.
        others: the curves of runs that no average counts, with their status.
        notes: how the runs were aligned, in sentences.
    """

    steps: np.ndarray
    values: np.ndarray
    band: tuple[np.ndarray, ...]
    worst: int
    others: tuple[tuple[str, Curve], ...]
    notes: tuple[str, ...]


def read_curves_of(record: Record) -> dict[str, Curve]:
    """Read the curves that a report draws; from TensorBoard's events where a run has no file of its own for them."""
    tags = (EVALUATED, TRAINED, SECONDS)
    found = read_curve_file(record.folder, *tags)
    return events(record.folder, tags) if found is None else found


def events(folder: Path, tags: Sequence[str]) -> dict[str, Curve]:
    """Read curves from TensorBoard's events, thinned as curves.npz would have them."""
    from pgrun.run.curves import read_curves  # takes seconds to import

    recorder = CurveRecorder()
    for tag, curve in read_curves(folder).items():
        if tag in tags:
            for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
                recorder.add(tag, value, step)
    return {tag: thinned.points() for tag, thinned in recorder.curves.items()}


def return_curve(curves: Mapping[str, Curve]) -> Curve | None:
    """Choose the curve of returns: evaluation's, or training's where nothing was evaluated; without NaN."""
    for tag in (EVALUATED, TRAINED):
        if tag in curves:
            steps, values = curves[tag]
            kept = np.isfinite(values)
            if kept.any():
                return Curve(steps[kept], values[kept])
    return None


def group_curve(group: Group, curves: Mapping[Path, dict[str, Curve]]) -> GroupCurve | None:
    """Average a group's learning curves; None where no run has one.

    Args:
        group: the runs.
        curves: of each run, by its folder.
    """
    counted = [(record, curve) for record in group.counted if (curve := return_curve(curves[record.folder]))]
    others = tuple(
        (f"seed {record.seed}: {record.status}", curve)
        for record in group.left_out
        if (curve := return_curve(curves[record.folder]))
    )
    if not counted:
        return GroupCurve(np.empty(0), np.empty((0, 0)), (), 0, others, ()) if others else None
    steps, values, notes = aligned([hold_to_end(record, curve, group) for record, curve in counted])
    if any(stopped_early(record) for record, _ in counted):
        notes = (*notes, "the last value of runs that reached eval.stop_at is held until the others' end")
    if any(EVALUATED not in curves[record.folder] for record, _ in counted):
        notes = (*notes, "returns of training, as nothing was evaluated")
    worst = min(range(len(counted)), key=lambda number: score(counted[number][0]) or 0.0)
    return GroupCurve(steps, values, iqm_band(values), worst, others, notes)


def stopped_early(record: Record) -> bool:
    """Return whether a run ended before its planned steps because it reached eval.stop_at."""
    planned = record.total_steps
    stop_at = record.config.get("eval.stop_at") not in (None, "None")
    return record.status == "finished" and stop_at and planned is not None and (record.steps or planned) < planned


def hold_to_end(record: Record, curve: Curve, group: Group) -> Curve:
    """Hold the last value of a run that stopped early until the group's longest run ends."""
    end = max(run.steps or 0 for run in group.counted)
    if not stopped_early(record) or end <= curve.steps[-1]:
        return curve
    return Curve(np.append(curve.steps, end), np.append(curve.values, curve.values[-1]))


def aligned(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Bring curves onto common steps.

    Returns:
        The steps [K], the values [runs, K], and how it was done in sentences, none if nothing had to be done.
    """
    first = curves[0].steps
    if all(np.array_equal(curve.steps, first) for curve in curves):
        return first, np.stack([curve.values for curve in curves]), ()
    begin, end = max(curve.steps[0] for curve in curves), min(curve.steps[-1] for curve in curves)
    if begin >= end:  # single points at different steps, or runs without a step in common
        last = np.array([max(curve.steps[-1] for curve in curves)])
        return last, np.stack([curve.values[-1:] for curve in curves]), ("runs share no steps: the last values stand",)
    points = min(GRID, max(len(curve.steps) for curve in curves))
    steps = np.linspace(begin, end, points)
    values = np.stack([np.interp(steps, curve.steps, curve.values) for curve in curves])
    note = f"seeds evaluated at different steps: interpolated linearly onto {points} common steps"
    if end < max(curve.steps[-1] for curve in curves) - (end - begin) / 20:
        note += f", up to {end:,.0f}, where the shortest run ends"
    return steps, values, (note,)


def reached(record: Record, curves: Mapping[str, Curve], threshold: float) -> tuple[float, float | None] | None:
    """Find where a run's evaluation first reaches a threshold; None if it never does.

    Returns:
        The environment steps, and the seconds of training until then if they are known.
    """
    curve = return_curve(curves)
    if curve is None or not (hits := np.flatnonzero(curve.values >= threshold)).size:
        return None
    step = float(curve.steps[hits[0]])
    if SECONDS in curves:
        return step, float(np.interp(step, [0, *curves[SECONDS].steps], [0.0, *curves[SECONDS].values]))
    trained = record.result.get("train_seconds")
    return step, None if not (trained and record.steps) else float(trained) * min(1.0, step / record.steps)
