"""Lists of runs: sorted, filtered, and as a table that fits a terminal."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pgrun.after.groups import said
from pgrun.after.records import Record
from pgrun.config.suggest import nearest
from pgrun.errors import UserError
from pgrun.run.console import shown

COLUMNS: dict[str, Callable[[Record], Any]] = {
    "algo": lambda run: run.algo,
    "env": lambda run: run.env_id,
    "changed": lambda run: " ".join(run.changed),
    "seed": lambda run: run.seed,
    "steps": lambda run: run.steps,
    "return": lambda run: run.return_,
    "status": lambda run: run.status,
    "age": lambda run: run.age,
    "folder": lambda run: str(shown(run.folder)),
}
# Further words that --sort and --filter know, beside a config's keys.
OTHERS: dict[str, Callable[[Record], Any]] = {
    "env_id": lambda run: run.env_id,
    "train_return": lambda run: run.train_return,
    "wall_seconds": lambda run: run.wall_seconds,
    "reproduces": lambda run: run.reproduces or None,
}
WORDS = {**COLUMNS, **OTHERS}
NUMBERS = ("seed", "steps", "return", "age")  # columns that are flush right
CONDITION = re.compile(r"(?P<key>[\w./@]+)(?P<sign>!=|>=|<=|=|>|<)(?P<value>.*)", re.DOTALL)
TWO = re.compile(r"[,;&][\w./@]+[=<>]")  # another condition within a value
SIGNS: dict[str, Callable[[float, float], bool]] = {
    **{">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le},
}
LEAST = 12  # characters of a column that is cut


def value_of(record: Record, key: str) -> Any:
    """Return a column's value, or a key's of the config or its groups; None where the run has none."""
    if key in WORDS:
        return WORDS[key](record)
    return record.config.get(key, record.choices.get(key))


def check_key(records: Sequence[Record], key: str, option: str) -> None:
    """Raise UserError if a key is no column, and in no run's config."""
    if key in WORDS or any(key in record.config or key in record.choices for record in records):
        return
    keys = {key for record in records for key in (*record.config, *record.choices)}
    near = [word for word in nearest(key, {*WORDS, *keys}, 3) if alike(key, word)]
    near.sort(key=lambda word: word not in WORDS)
    question = f"; did you mean {' or '.join(near)}?" if near else "."
    raise UserError(f"{option} {key}: no column, and no key of these runs{question} Columns are {', '.join(WORDS)}")


def alike(word: str, other: str) -> bool:
    """Tell whether a word may be another, mistyped, or the last part of another."""
    pairs = ((word, other), (word.rpartition(".")[2], other.rpartition(".")[2]))
    return max(difflib.SequenceMatcher(None, one.lower(), two.lower()).ratio() for one, two in pairs) > 0.6


def filtered(records: Sequence[Record], conditions: Sequence[str], option: str = "--filter") -> list[Record]:
    """Select the runs for which all conditions hold.

    Args:
        records: the runs.
        conditions: words as `algo=ppo`, `return>400`, `status!=finished`; several in one text are separated by spaces.
            A value to be equal to may have * and ?.
        option: by which they were given, for messages.

    Raises:
        UserError: a condition can't be read, or no run has its key.
    """
    kept = list(records)
    for word in (word for text in conditions for word in text.split()):
        match = CONDITION.fullmatch(word)
        if match is None or not match["value"]:
            raise UserError(f"{option} {word}: write KEY=VALUE, KEY!=VALUE, KEY>NUMBER, KEY<NUMBER, KEY>=… or KEY<=…")
        key, sign, value = match["key"], match["sign"], match["value"]
        check_key(records, key, option)
        if sign == "=" and value.startswith("="):
            raise UserError(f"{option} {word}: write {key}{value}, with one =")
        if value.endswith((",", ";")) or TWO.search(value):
            raise UserError(f"{option} {word}: separate conditions by spaces alone, as in 'algo=ppo return>400'")
        if sign in SIGNS and numeric(value) is None:
            raise UserError(f"{option} {word}: {value} is no number")
        kept = [record for record in kept if holds(names_of(record, key), sign, value)]
    return kept


def names_of(record: Record, key: str) -> list[Any]:
    """Return the values that a filter may call a key's: an environment has the name of its config and its id."""
    return [record.env, record.env_id] if key == "env" else [value_of(record, key)]


def holds(values: Sequence[Any], sign: str, wanted: str) -> bool:
    """Tell whether a condition holds of one of the values; one on size never holds where there is no number."""
    other = numeric(wanted)
    if sign in SIGNS:
        return any(one is not None and other is not None and SIGNS[sign](one, other) for one in map(numeric, values))
    equal = any(equals(value, wanted) for value in values)
    return equal if sign == "=" else not equal


def equals(value: Any, wanted: str) -> bool:
    """Tell whether a value is the wanted one, as a number or by its name, in which * and ? stand for anything."""
    one, other = numeric(value), numeric(wanted)
    equal = one == other if one is not None and other is not None else fnmatchcase(said(value), wanted)
    return equal or fnmatchcase(str(value), wanted)


def numeric(value: Any) -> float | None:
    """Return a value as a number, if it is one."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def ordered(records: Sequence[Record], key: str, *, descending: bool = False) -> list[Record]:
    """Sort runs by a column or a key of the config; those without a value come last.

    Raises:
        UserError: no run has the key.
    """
    check_key(records, key, "--sort")
    with_value = [record for record in records if value_of(record, key) is not None]
    without = [record for record in records if value_of(record, key) is None]

    def rank(record: Record) -> tuple[bool, float, str]:
        value = value_of(record, key)
        number = numeric(value)
        return number is None, number or 0.0, str(value)

    return [*sorted(with_value, key=rank, reverse=descending), *without]


def as_json(record: Record) -> dict[str, Any]:
    """Return a run as a line of JSON has it."""
    return {
        "folder": str(record.folder),
        "algo": record.algo,
        "env": record.env,
        "env_id": record.env_id,
        "changed": list(record.changed),
        "seed": record.seed,
        "steps": record.steps,
        "total_steps": record.total_steps,
        "return": record.return_,
        "train_return": record.train_return,
        "status": record.status,
        "age": round(record.age, 1),
        "wall_seconds": record.wall_seconds,
        "reproduces": record.reproduces or None,
    }


def shared_words(records: Sequence[Record]) -> list[str]:
    """Return what all runs changed alike, which need not be said in each line."""
    if len(records) < 2:
        return []
    return [word for word in records[0].changed if all(word in record.changed for record in records)]


def table(records: Sequence[Record], width: int, more: str | None = None) -> list[str]:
    """Lay out runs as lines of at most `width` characters, if that is possible; long texts lose their middle.

    What all of them changed alike stands in a line of its own.

    Args:
        records: the runs.
        width: in characters.
        more: a key that gets a column, too.
    """
    shared, names = shared_words(records), list(COLUMNS)
    if more is not None and more not in names:
        names.insert(names.index("changed") + 1, more)
    lines = [names, *([cell(record, name, shared) for name in names] for record in records)]
    sizes = [max(len(line[number]) for line in lines) for number in range(len(names))]
    if all(not line[names.index("changed")] for line in lines[1:]):
        sizes[names.index("changed")] = 0
    wide = [number for number in map(names.index, ("changed", "folder", "env")) if sizes[number] > LEAST]
    excess = sum(sizes) + 2 * (sum(size > 0 for size in sizes) - 1) - width
    while excess > 0 and (number := max(wide, key=lambda each: sizes[each], default=None)) is not None:
        if sizes[number] <= LEAST:
            break
        sizes[number], excess = sizes[number] - 1, excess - 1  # the widest gives way
    said_once = [shortened(f"all of them: {' '.join(shared)}", width)] if shared else []
    return [*said_once, *(joined(names, line, sizes) for line in lines)]


def cell(record: Record, name: str, shared: Sequence[str]) -> str:
    """Write one cell, without what all runs changed alike."""
    if name == "changed":
        return " ".join(word for word in record.changed if word not in shared)
    value = value_of(record, name)
    if value is None:
        return "–"
    if name not in COLUMNS:
        return said(value)
    if name == "age":
        return ago(value)
    if name == "return":
        return f"{value:,.1f}"
    return f"{value:,}" if name == "steps" else str(value)


def joined(names: Sequence[str], line: Sequence[str], sizes: Sequence[int]) -> str:
    """Put a line's cells side by side."""
    parts = []
    for name, text, size in zip(names, line, sizes, strict=True):
        if size:
            text = shortened(text, size)
            parts.append(text.rjust(size) if name in NUMBERS or name not in COLUMNS else text.ljust(size))
    return "  ".join(parts).rstrip()


def shortened(text: str, size: int) -> str:
    """Cut a text's middle, of which the end is worth more than the beginning in paths."""
    if len(text) <= size:
        return text
    end = (size - 1) * 2 // 3
    return f"{text[: size - 1 - end]}…{text[len(text) - end :]}"


def ago(seconds: float) -> str:
    """Write an age in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
