"""Groups of runs that differ in nothing but the seed, and short names for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pgrun.after.records import Record

APART = ("seed",)  # keys that don't tell two groups apart
# Keys that say where and how a run is kept, not how it learns.
BESIDE = ("checkpoint.", "log.", "device", "act_device", "threads")
MISSING = "(none)"
# Keys that make an environment another task, which algorithms should have in common, and values that leave it as it is.
TASK = ("env.wrappers", "env.kwargs", "env.stack", "env.max_episode_steps", "env.extra", "env.shaping")
AS_IT_IS = ("[]", "null", "{}", "1", MISSING)


@dataclass(frozen=True)
class Group:
    """Runs of one algorithm in one environment with one config, over seeds.

    Attributes:
        records: the runs, by seed.
        differs: the keys, with values, in which this group differs from others of this algorithm and environment.
        env: a name of the environment, which no other environment here has.
    """

    records: tuple[Record, ...]
    differs: tuple[tuple[str, Any], ...]
    env: str

    @property
    def algo(self) -> str:
        """The algorithm's name."""
        return self.records[0].algo

    @cached_property
    def method(self) -> str:
        """A name of what is compared: the algorithm, and the keys that differ; the same in all environments."""
        return " ".join([self.algo, *(f"{key}={said(value)}" for key, value in self.differs)])

    @cached_property
    def counted(self) -> tuple[Record, ...]:
        """The runs that averages are taken over: the finished ones, or if there is none those that are on their way."""
        scored = [record for record in self.records if record.status != "diverged" and score(record) is not None]
        return tuple([record for record in scored if record.status == "finished"] or scored)

    @property
    def seeds(self) -> int:
        """How many different seeds the counted runs have."""
        return len({record.seed for record in self.counted})

    @property
    def left_out(self) -> tuple[Record, ...]:
        """The runs that no average counts."""
        counted = {record.folder for record in self.counted}
        return tuple(record for record in self.records if record.folder not in counted)

    @property
    def scores(self) -> list[float]:
        """The scores of the runs that are counted."""
        return [value for record in self.counted if (value := score(record)) is not None]


def score(record: Record) -> float | None:
    """Return what a run is worth: the return of its final evaluation, or of training's end if there was none."""
    return record.train_return if record.return_ is None else record.return_


def grouped(records: Iterable[Record]) -> list[Group]:
    """Group runs by everything but the seed.

    Returns:
        The groups by environment, within one the best first.
    """
    cells: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
    records = list(records)
    for record in records:
        cell = cells.setdefault((record.env_id, record.env, record.algo), {})
        cell.setdefault(json.dumps(identity(record), sort_keys=True, default=str), []).append(record)
    names = environment_names(records)
    varying = {both: task_keys([run for run in records if (run.env_id, run.env) == both]) for both in names}
    groups = [
        Group(
            tuple(sorted(runs, key=lambda run: (run.seed, str(run.folder)))),
            with_task(differs, runs[0], varying[env_id, env]),
            names[env_id, env],
        )
        for (env_id, env, _), cell in cells.items()
        for runs, differs in zip(cell.values(), differences([runs[0] for runs in cell.values()]), strict=True)
    ]
    return sorted(groups, key=lambda group: (group.env, -best(group), group.method))


def best(group: Group) -> float:
    """Return a group's mean score, for an order; the lowest number without one."""
    return sum(group.scores) / len(group.scores) if group.scores else float("-inf")


def identity(record: Record) -> dict[str, Any]:
    """Return the keys of a run's config that make it another experiment if they change."""
    return {key: value for key, value in record.config.items() if key not in APART and not key.startswith(BESIDE)}


def environment_names(records: Sequence[Record]) -> dict[tuple[str, str], str]:
    """Name environments by their ids, with the config's name where several have one id."""
    both = {(record.env_id, record.env) for record in records}
    ids = [env_id for env_id, _ in both]
    return {(env_id, env): env_id if ids.count(env_id) == 1 else f"{env_id} ({env})" for env_id, env in both}


def differences(firsts: Sequence[Record]) -> list[tuple[tuple[str, Any], ...]]:
    """Find the keys in which runs differ, with each one's values.

    Where another member of a config group was chosen, its name stands for all keys that come with it. A key whose value
    follows from a shown one's, as `${...}` does, is told apart by nothing and left out.

    Args:
        firsts: one run of each group.
    """
    if len(firsts) < 2:
        return [() for _ in firsts]
    keys = {key: None for record in firsts for key in record.choices if key not in ("algo", "env", "tuned")}
    chosen = [key for key in keys if differ([record.choices.get(key, MISSING) for record in firsts])]
    covered = tuple(f"{key.replace('/', '.')}." for key in chosen)
    columns: dict[str, list[Any]] = {key: [record.choices.get(key, MISSING) for record in firsts] for key in chosen}
    configs = [identity(record) for record in firsts]
    typed = {word.partition("=")[0] for record in firsts for word in record.changed}
    found = {key: None for config in configs for key in config if not key.startswith(covered)}
    varying = [key for key in found if differ([config.get(key, MISSING) for config in configs])]
    for key in sorted(varying, key=lambda key: key not in typed):  # what was typed explains what follows from it
        values = [config.get(key, MISSING) for config in configs]
        if key in typed or partition(values) not in map(partition, columns.values()):
            columns[key] = values
    return [tuple((key, column[row]) for key, column in columns.items()) for row in range(len(firsts))]


def task_keys(records: Sequence[Record]) -> list[str]:
    """List the keys by which runs of one environment, of whatever algorithm, have different tasks."""
    keys = {key: None for run in records for key in run.config if key.startswith(TASK)}
    return [key for key in keys if differ([run.config.get(key, MISSING) for run in records])]


def with_task(differs: tuple[tuple[str, Any], ...], run: Record, keys: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """Add to the keys in which a group differs those that make its task another than that of other algorithms."""
    named = tuple(key.replace("/", ".") for key, _ in differs)
    more = [(key, run.config.get(key, MISSING)) for key in keys if not key.startswith(named)]
    return (*differs, *((key, value) for key, value in more if said(value) not in AS_IT_IS))


def differ(values: Sequence[Any]) -> bool:
    """Return whether values are not all the same."""
    return len({said(value) for value in values}) > 1


def partition(values: Sequence[Any]) -> tuple[int, ...]:
    """Return which values are the same, as the place where each stands first."""
    texts = [said(value) for value in values]
    return tuple(map(texts.index, texts))


def said(value: Any) -> str:
    """Write a value of a config."""
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "null" if value == "None" else str(value)
    return text.rpartition(".")[2] if text.startswith("pgrun.") else text
