"""Records of runs: what each was and what became of it, read quickly from the small files of its directory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgrun.after.older_runs import older_record
from pgrun.errors import UserError
from pgrun.run.console import remark, shown
from pgrun.run.run_record import FILE
from pgrun.system.lock import held

USUAL = ("runs", "multirun")  # where runs lie if nothing else is said
OWN_KEYS = ("algo", "env", "seed")  # keys that have columns of their own
WITHIN = {"checkpoints", ".hydra", ".git", "__pycache__", "node_modules"}  # folders that hold no runs


class NoRun(Exception):
    """Raised for a folder that looks like a run directory and is none that can be read."""


@dataclass(frozen=True)
class Record:
    """A run, as its directory tells it.

    Attributes:
        folder: the run directory.
        algo: the algorithm's name, as it was chosen.
        env: the environment's name, as it was chosen.
        env_id: the environment's id.
        seed: the run's.
        changed: what the command line set, as `key=value`, without algorithm, environment and seed.
        status: finished, interrupted, pruned, diverged, failed; running, or killed if nothing runs there any more.
        steps: environment steps done; None where the run did not end and so did not say it.
        total_steps: environment steps planned.
        return_: the mean return of the final evaluation.
        train_return: the mean return of training's last 100 episodes.
        wall_seconds: how long it took, in all sessions.
        changed_at: when its last file was written, in seconds since 1970.
        config: the composed config, by dotted key.
        choices: the members of config groups that were chosen.
        result: the content of result.json; {} while there is none.
        reproduces: the directory of the run that this one ran again, by pgrun reproduce; "" for any other run.
    """

    folder: Path
    algo: str
    env: str
    env_id: str
    seed: int
    changed: tuple[str, ...]
    status: str
    steps: int | None
    total_steps: int | None
    return_: float | None
    train_return: float | None
    wall_seconds: float | None
    changed_at: float
    config: dict[str, Any] = field(repr=False, hash=False)
    choices: dict[str, str] = field(repr=False, hash=False)
    result: dict[str, Any] = field(repr=False, hash=False)
    reproduces: str = ""

    @property
    def age(self) -> float:
        """Seconds since the run's last file was written."""
        return max(0.0, time.time() - self.changed_at)

    def __fspath__(self) -> str:
        """Return the folder, so that a record can be given where a path can."""
        return str(self.folder)


def read_runs(*places: str | os.PathLike[str], least: int = 1) -> list[Record]:
    """Read the records of all runs in folders, and in folders within these.

    Broken, half-written and other programs' directories are left out, with one remark.

    Args:
        places: run directories, sweeps, or any folders above them; none: runs/ and multirun/ of the working directory.
        least: how many runs there have to be.

    Raises:
        UserError: a folder doesn't exist, or there are fewer runs.
    """
    folders = [Path(place) for place in places] or [Path(name) for name in USUAL if Path(name).is_dir()]
    for folder in folders:
        if not folder.exists():
            raise UserError(f"{folder} doesn't exist: give a run directory, a sweep, or a folder above them")
        if not folder.is_dir():
            raise UserError(f"{folder} is a file: give a run directory, a sweep, or a folder above them")
    records: dict[Path, Record] = {}
    wrong: list[str] = []
    for folder in folders:
        for path in run_directories(folder.absolute()):
            if path not in records:
                try:
                    records[path] = read_record(path)
                except NoRun as error:
                    wrong.append(f"{shown(path)} ({error})")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        remark(f"pgrun: left out: {', '.join(wrong[:3])}{more}")
    if len(records) < least:
        where = ", ".join(str(folder) for folder in folders) or f"{Path.cwd()}, in {' and '.join(USUAL)}"
        links = "; links within are not followed" if any(map(has_links, folders)) else ""
        raise UserError(f"no runs in {where}: give folders that hold some, or train one, as by pgrun algo=ppo{links}")
    return sorted(records.values(), key=lambda record: (record.changed_at, str(record.folder)))


def has_links(folder: Path) -> bool:
    """Tell whether a folder has links to folders, which a search passes by."""
    with os.scandir(folder) as entries:
        return any(entry.is_symlink() and entry.is_dir() for entry in entries)


def without_reproductions(records: Sequence[Record]) -> tuple[list[Record], str]:
    """Leave out runs that only ran another again, which say nothing that the other doesn't; all are kept if all do.

    Returns:
        The others, and a note on those that are left out; "" where none is.
    """
    kept = [record for record in records if not record.reproduces]
    gone = [record.folder.name for record in records if record.reproduces]
    if not kept or not gone:
        return list(records), ""
    names = f"{', '.join(gone[:3])}{f' and {len(gone) - 3} more' if len(gone) > 3 else ''}"
    return kept, f"left out as reproductions, which are no further seeds: {names}"


def run_directories(folder: Path) -> Iterator[Path]:
    """Find run directories in a folder: itself, or those anywhere below it."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry for entry in entries}
    except OSError:
        return
    if FILE in found or ".hydra" in found or "result.json" in found:
        yield folder
        return
    for name in sorted(found):
        try:
            if name not in WITHIN and found[name].is_dir(follow_symlinks=False):
                yield from run_directories(folder / name)
        except OSError:
            continue


def read_record(folder: Path) -> Record:
    """Read the record of one run directory.

    Raises:
        NoRun: it is none, or its files are torn.
    """
    result = read_json(folder / "result.json") if (folder / "result.json").exists() else {}
    about = read_json(folder / FILE) if (folder / FILE).exists() else older_record(folder, result)
    if about is None:
        raise NoRun("no run of pgrun's")
    last = folder / ("result.json" if result else FILE if (folder / FILE).exists() else ".hydra")
    try:
        words = [*map(str, about["overrides"]), *map(str, about.get("resumed_with", ()))]
        return Record(
            folder=folder,
            algo=str(about["algo"]),
            env=str(about["env"]),
            env_id=str(about["env_id"]),
            seed=int(about["seed"]),
            changed=changed(words),
            status=str(result.get("status") or ("running" if held(folder / ".lock") else "killed")),
            steps=whole(result.get("env_steps")),
            total_steps=whole(about.get("total_steps")),
            return_=number(result.get("eval_return_mean")),
            train_return=number(result.get("train_return_mean")),
            wall_seconds=number(result.get("wall_seconds")),
            changed_at=last.stat().st_mtime,
            config=dict(about["config"]),
            choices=dict(about["choices"]),
            result=result,
            reproduces=str(about.get("reproduces", "")),
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise NoRun(f"{FILE} is not pgrun's: {type(error).__name__} {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise NoRun(f"{path.name} can't be read") from error
    if not isinstance(content, dict):
        raise NoRun(f"{path.name} holds no mapping")
    return content


def changed(words: Sequence[str]) -> tuple[str, ...]:
    """Select what a command line changed besides algorithm, environment and seed; the last word on a key counts."""
    by_key = {word.lstrip("+").partition("=")[0]: word.lstrip("+") for word in words}
    return tuple(word for key, word in by_key.items() if key not in OWN_KEYS)


def number(value: Any) -> float | None:
    """Return a finite number, or None."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def whole(value: Any) -> int | None:
    """Return a whole number, or None."""
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
