"""A comparison of two runs, or of two folders of runs: how they differ, and by how much their results do."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from pgrun.after import statistics
from pgrun.after.groups import Group, environment_names, grouped, said
from pgrun.after.records import Record
from pgrun.after.statistics import Estimate
from pgrun.run.result_file import flatten

PROVENANCE = "provenance.json"  # where a run says on what machine and of which code it was made, if it does
UNSET = "(not set)"


@dataclass(frozen=True)
class Difference:
    """A thing that differs, with its different values on both sides."""

    name: str
    firsts: tuple[Any, ...]
    seconds: tuple[Any, ...]

    @property
    def first(self) -> str:
        """The values on the first side, as text."""
        return several([said(value) for value in self.firsts])

    @property
    def second(self) -> str:
        """The values on the second side, as text."""
        return several([said(value) for value in self.seconds])

    @property
    def plain(self) -> dict[str, Any]:
        """The difference as JSON has it: of one value a side the value, of several a list."""
        sides = ([None if value == "None" else value for value in side] for side in (self.firsts, self.seconds))
        first, second = (values[0] if len(values) == 1 else values for values in sides)
        return {"name": self.name, "first": first, "second": second}


@dataclass(frozen=True)
class Outcome:
    """The results of both sides in one environment.

    Attributes:
        env: the environment's name.
        first: the interquartile mean of the first side's scores, and how many runs it is of.
        second: the same of the second side's.
        difference: the second's minus the first's.
        improvement: the probability that a run of the second's is better than one of the first's.
        over: what the difference's interval is over: seeds, evaluation episodes (of one run each), or "" without one.
        left_out: runs of either side that are not counted, in words.
    """

    env: str
    first: tuple[Estimate, int]
    second: tuple[Estimate, int]
    difference: Estimate
    improvement: Estimate
    over: str
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """How two sides differ.

    Attributes:
        differences: by chapter: config, versions, code, machine.
        same: the chapters in which both sides are known to be the same.
        unknown: the chapters of which neither side has a record.
        outcomes: of the environments that both sides have scores in.
        apart: what can't be compared, in sentences.
    """

    differences: dict[str, tuple[Difference, ...]]
    same: tuple[str, ...]
    unknown: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    apart: tuple[str, ...]


def compare(first: Sequence[Record], second: Sequence[Record]) -> Comparison:
    """Compare two runs, or two sets of runs.

    Args:
        first: the runs of the one side.
        second: the runs of the other.
    """
    sides = [[facts(record) for record in side] for side in (first, second)]
    differences, same, unknown = {}, [], []
    for chapter in ("config", "versions", "code", "machine"):
        one, other = ([each[chapter] for each in side] for side in sides)
        found = tuple(differ(one, other))
        if found:
            differences[chapter] = found
        elif any(one) and any(other):
            same.append(chapter)
        else:
            unknown.append(chapter)
    outcomes, apart = results(first, second)
    return Comparison(differences, tuple(same), tuple(unknown), tuple(outcomes), tuple(apart))


def facts(record: Record) -> dict[str, dict[str, Any]]:
    """Gather what made a run what it is, by chapter."""
    told = {"algo": record.algo, "env": record.env}
    chosen = {key: value for key, value in record.choices.items() if key not in ("algo", "env")}
    session: dict[str, Any] = {}
    with suppress(OSError, ValueError, KeyError, IndexError, TypeError):
        session = json.loads((record.folder / PROVENANCE).read_text(encoding="utf-8"))["sessions"][-1]
    versions = session.get("versions") or record.result.get("versions") or {}
    chapters = {"versions": versions, "code": session.get("code") or {}, "machine": session.get("machine") or {}}
    return {"config": {**told, **chosen, **record.config}, **{name: flatten(each) for name, each in chapters.items()}}


def differ(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> list[Difference]:
    """List the keys whose values are not the same on both sides."""
    found = []
    for key in {key: None for side in (one, other) for each in side for key in each}:
        values = [{said(value): value for each in side for value in (each.get(key, UNSET),)} for side in (one, other)]
        if values[0].keys() != values[1].keys():
            found.append(Difference(key, tuple(values[0].values()), tuple(values[1].values())))
    return found


def several(values: Sequence[str]) -> str:
    """Write the values of one side."""
    return ", ".join(values) if len(values) <= 6 else f"{', '.join(values[:5])} and {len(values) - 5} more"


def results(first: Sequence[Record], second: Sequence[Record]) -> tuple[list[Outcome], list[str]]:
    """Compare the results of both sides in each environment that both have."""
    names = environment_names([*first, *second])
    sides = []
    for records in (first, second):
        groups: dict[str, list[Group]] = {}
        for group in grouped(records):
            key = names[group.records[0].env_id, group.records[0].env]
            groups.setdefault(key, []).append(group)
        sides.append(groups)
    outcomes, apart = [], []
    for env in dict.fromkeys([*sides[0], *sides[1]]):
        found = [side.get(env, []) for side in sides]
        if not all(found):
            apart.append(f"{env}: only {'A' if found[0] else 'B'} has runs there")
            continue
        counted = [[run for group in groups for run in group.counted] for groups in found]
        if not all(counted):
            apart.append(f"{env}: {'B' if counted[0] else 'A'} has no run with a result")
            continue
        left = tuple(
            f"{side}: seed {run.seed} {run.status}, not counted"
            for side, groups in zip("AB", found, strict=True)
            for group in groups
            for run in group.left_out
        )
        outcomes.append(outcome(env, counted[0], counted[1], [scores_of(groups) for groups in found], left))
    return outcomes, apart


def scores_of(groups: Sequence[Group]) -> np.ndarray:
    """Return the scores of all counted runs."""
    return np.array([value for group in groups for value in group.scores])


def outcome(
    env: str, first: Sequence[Record], second: Sequence[Record], scores: Sequence[np.ndarray], left: tuple[str, ...]
) -> Outcome:
    """Compare the results in one environment: B against A."""
    one, other = [scores[0]], [scores[1]]
    difference, over = statistics.estimate_difference(other, one), "seeds"
    if difference.low is None:
        difference, over = over_episodes(first, second, difference)
    return Outcome(
        env,
        (statistics.estimate(statistics.iqm, one), len(first)),
        (statistics.estimate(statistics.iqm, other), len(second)),
        difference,
        statistics.estimate_improvement(other, one),
        over,
        left,
    )


def over_episodes(first: Sequence[Record], second: Sequence[Record], difference: Estimate) -> tuple[Estimate, str]:
    """Give the difference of two single runs an interval over evaluation episodes, by Welch's t."""
    if len(first) != 1 or len(second) != 1:
        return difference, ""
    spreads = []
    for record in (first[0], second[0]):
        std, episodes = record.result.get("eval_return_std"), record.result.get("eval_episodes") or 0
        if record.return_ is None or std is None or episodes < 2:
            return difference, ""
        spreads.append((std * std / (episodes - 1), episodes - 1))
    variance = sum(each for each, _ in spreads)
    if variance == 0:
        return Estimate(difference.value, difference.value, difference.value), "evaluation episodes"
    freedom = variance**2 / sum(each**2 / df for each, df in spreads)
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
    return Estimate(difference.value, difference.value - half, difference.value + half), "evaluation episodes"


def side_name(place: str, records: Sequence[Record]) -> str:
    """Name a side: where it is or what holds for it, and how many runs it has."""
    return f"{place} ({len(records)} run{'s' * (len(records) != 1)})"
