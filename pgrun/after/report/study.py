"""The numbers of a report: of each environment its groups, and of methods over several environments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pgrun.after import statistics
from pgrun.after.groups import Group, grouped, score
from pgrun.after.learning_curves import GroupCurve, group_curve, reached, read_curves_of
from pgrun.after.records import Record, without_reproductions
from pgrun.after.statistics import Estimate
from pgrun.run.threshold import reward_threshold

Bounds = Mapping[str, tuple[float, float]]  # of normalised scores: by environment what is 0 and what is 1


@dataclass(frozen=True)
class Row:
    """A group's numbers in one environment; None where no run is counted.

    Attributes:
        iqm: the interquartile mean of final scores.
        reached: how many counted runs reach the threshold.
        steps: the median steps until then over all counted runs; None where fewer than half of them reach it.
        seconds: the same in seconds of training.
    """

    group: Group
    curve: GroupCurve | None
    iqm: Estimate | None
    mean: float | None
    median: float | None
    worst: float | None
    best: float | None
    reached: int
    steps: float | None
    seconds: float | None


@dataclass(frozen=True)
class Environment:
    """An environment with its groups, best first.

    Attributes:
        improvement: for each pair of groups, by their numbers, the probability that the first is better.
        notes: sentences on how its curves were aligned, and on runs that no average counts.
    """

    name: str
    threshold: float | None
    rows: tuple[Row, ...]
    improvement: dict[tuple[int, int], Estimate]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Overall:
    """A method's normalised scores over the environments, and their aggregates."""

    method: str
    scores: tuple[np.ndarray, ...]
    iqm: Estimate
    median: Estimate
    mean: Estimate
    gap: Estimate | None  # known where the scores' bounds are given


@dataclass(frozen=True)
class Study:
    """All numbers of a report.

    Attributes:
        shared: the environments that all methods of `overall` were run in.
        bounded: whether the scores' bounds were given; else they are the report's own worst and best run.
        notes: sentences on runs that are not in the report.
    """

    records: tuple[Record, ...]
    environments: tuple[Environment, ...]
    overall: tuple[Overall, ...]
    shared: tuple[str, ...]
    bounded: bool
    improvement: dict[tuple[int, int], Estimate]
    notes: tuple[str, ...]


def study(
    records: Sequence[Record], thresholds: Mapping[str, float] | None = None, bounds: Bounds | None = None
) -> Study:
    """Compute the numbers of a report.

    Args:
        records: the runs.
        thresholds: by an environment's id the return to reach, in place of what it has registered.
        bounds: for each environment, by its id, the scores that count as 0 and as 1.
    """
    records, note = without_reproductions(records)
    groups = grouped(records)
    curves = {record.folder: read_curves_of(record) for record in records}
    by_name: dict[str, list[Group]] = {}
    for group in groups:
        by_name.setdefault(group.env, []).append(group)
    environments = tuple(environment(name, members, curves, thresholds or {}) for name, members in by_name.items())
    overall, shared, bounded = over_environments(by_name, bounds or {})
    improvement = pairs([list(o.scores) for o in overall])
    return Study(tuple(records), environments, overall, shared, bounded, improvement, (note,) if note else ())


def environment(
    name: str, groups: Sequence[Group], curves: Mapping[Path, dict], thresholds: Mapping[str, float]
) -> Environment:
    """Compute the numbers of one environment."""
    first = groups[0].records[0]
    threshold = thresholds.get(first.env_id)
    if threshold is None:
        threshold = reward_threshold(first.env_id, first.config.get("env.max_episode_steps"))
    rows = tuple(row(group, curves, threshold) for group in groups)
    scores = [[np.array(r.group.scores)] for r in rows]
    return Environment(name, threshold, rows, pairs(scores), together(rows))


def row(group: Group, curves: Mapping[Path, dict], threshold: float | None) -> Row:
    """Compute a group's numbers."""
    curve, scores = group_curve(group, curves), np.array(group.scores)
    if not scores.size:
        return Row(group, curve, None, None, None, None, None, 0, None, None)
    hits = [] if threshold is None else [reached(run, curves[run.folder], threshold) for run in group.counted]
    known = [hit for hit in hits if hit is not None]
    return Row(
        group,
        curve,
        statistics.estimate(statistics.iqm, [scores]),
        float(scores.mean()),
        float(np.median(scores)),
        float(scores.min()),
        float(scores.max()),
        len(known),
        middle([math.inf if hit is None else hit[0] for hit in hits]),
        middle([math.inf if hit is None or hit[1] is None else hit[1] for hit in hits]),
    )


def middle(values: Sequence[float]) -> float | None:
    """Return the median; None where it is not finite or there are no values."""
    found = float(np.median(values)) if values else math.inf
    return found if math.isfinite(found) else None


def together(rows: Sequence[Row]) -> tuple[str, ...]:
    """Gather the notes on groups, each once, with the groups that it is on; those on diverged runs come first."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        for note in notes_on(row):
            groups.setdefault(note, []).append(row.group.method)
    found = [
        f"{', '.join(names) if len(names) < 3 else f'{len(names)} of {len(rows)} groups'}: {note}"
        for note, names in groups.items()
    ]
    return tuple(sorted(found, key=lambda note: " diverged" not in note))


def notes_on(row: Row) -> list[str]:
    """Say what a reader has to know of a group before believing its numbers."""
    group: Group = row.group
    notes = []
    for record in group.left_out:
        at = "" if record.steps is None else f" at step {record.steps:,}"
        notes.append(f"seed {record.seed} {record.status}{at}, not in the averages ({record.folder.name})")
    states = sorted({record.status for record in group.counted if record.status != "finished"})
    if states:
        notes.append(f"no run is finished; the averages are of runs that are {', '.join(states)}")
    if len(group.counted) == 1:
        notes.append("a single seed, so there is no band and no interval")
    seeds = [record.seed for record in group.counted]
    if len(set(seeds)) < len(seeds):
        notes.append("some seeds were run more than once, and all of these runs count")
    if any(record.return_ is None for record in group.counted):
        notes.append("without a final evaluation, the score is the mean of training's last 100 episodes")
    return [*notes, *(row.curve.notes if row.curve else ())]


def pairs(scores: Sequence[Sequence[np.ndarray]]) -> dict[tuple[int, int], Estimate]:
    """Estimate for each pair of the first twelve the probability that the first is better."""
    few = [number for number, each in enumerate(scores) if all(x.size for x in each)][:12]
    resamples = statistics.RESAMPLES if len(few) < 6 else 500
    upper = {
        (i, j): statistics.estimate_improvement(scores[i], scores[j], resamples=resamples)
        for i in few
        for j in few
        if i < j
    }
    return {**upper, **{(j, i): mirrored(estimate) for (i, j), estimate in upper.items()}}


def mirrored(estimate: Estimate) -> Estimate:
    """Return the probability that the second is better, given the first's."""
    value, low, high = estimate
    return Estimate(1 - value, None if high is None else 1 - high, None if low is None else 1 - low)


def over_environments(
    by_name: Mapping[str, Sequence[Group]], bounds: Bounds
) -> tuple[tuple[Overall, ...], tuple[str, ...], bool]:
    """Aggregate methods over environments: over those that were run in all of the environments with several methods.

    Returns:
        The methods, best first; the environments; whether all bounds of scores were given.
    """
    scored = {name: {g.method: g for g in groups if g.scores} for name, groups in by_name.items()}
    scored = {name: methods for name, methods in scored.items() if methods}
    if len(scored) < 2:
        return (), (), False
    counts = {method: sum(method in methods for methods in scored.values()) for m in scored.values() for method in m}
    most = max(counts.values())
    if most < 2:
        return (), (), False
    first = next(method for method, count in counts.items() if count == most)
    shared = tuple(name for name, methods in scored.items() if first in methods)
    methods = [method for method in counts if all(method in scored[name] for name in shared)]
    ids = {name: groups[0].records[0].env_id for name, groups in by_name.items()}
    bounded = all(ids[name] in bounds for name in shared)
    found = []
    limits = {name: bounds[ids[name]] if bounded else extremes(by_name[name]) for name in shared}
    for method in methods:
        scores = tuple(normalised(scored[name][method].scores, *limits[name]) for name in shared)
        iqm, median, mean = (
            statistics.estimate(statistic, scores) for statistic in (statistics.iqm, statistics.median, statistics.mean)
        )
        gap = statistics.estimate(statistics.optimality_gap, scores) if bounded else None
        found.append(Overall(method, scores, iqm, median, mean, gap))
    return tuple(sorted(found, key=lambda each: -each.iqm.value)), shared, bounded


def extremes(groups: Sequence[Group]) -> tuple[float, float]:
    """Return the lowest and the highest score of an environment's runs."""
    scores = [value for group in groups for run in group.counted if (value := score(run)) is not None]
    return min(scores), max(scores)


def normalised(scores: Sequence[float], low: float, high: float) -> np.ndarray:
    """Scale scores so that the bounds become 0 and 1; all are 0 where the bounds are the same."""
    return (np.array(scores) - low) / ((high - low) or 1.0)
