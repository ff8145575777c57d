"""Reading what a run left in its directory: data alone, so that a stranger's run can be looked at without trust."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pgrun.after.doctor.evidence import Evidence
from pgrun.config.tuning import overrides_of
from pgrun.errors import UserError
from pgrun.run.curve_file import FILE, Curve, read_curve_file
from pgrun.run.directory import check_run, hydra_of, told, written_config
from pgrun.run.run_record import FILE as RECORD
from pgrun.trust.files import links_away, read_object

EVENTS = "events.out.tfevents."  # how the names of TensorBoard's files begin


def gather(folder: Path) -> Evidence:
    """Read a run's curves, config and result. Nothing is imported for it, and no reference is looked up.

    Args:
        folder: the run directory.

    Raises:
        UserError: it is no run directory, or what is in it can't be read.
    """
    if not (folder / RECORD).is_file():
        check_run(folder)
    away = links_away(folder)
    refuse(folder, [link for link in away if link.startswith(".hydra") or link in (FILE, RECORD, "result.json")])
    about = read_object(folder / RECORD) or {}
    config = written_config(folder / ".hydra" / "config.yaml") or about.get("config")
    if not isinstance(config, dict) or not config:
        raise UserError(f"{folder} holds no config that can be read, neither .hydra/config.yaml nor {RECORD}")
    hydra, result = hydra_of(folder), read_object(folder / "result.json") or {}
    choices = about if hydra is None else hydra.runtime.choices
    return Evidence(
        curves=read_all_curves(folder, away),
        config=config,
        result=result,
        names={key: printable(choices.get(key) or result.get(key) or "?") for key in ("algo", "env")},
        words=words_of([*(overrides_of(hydra) if hydra is not None else about.get("overrides") or ()), *told(folder)]),
        cause=printable(result.get("cause") or ""),
        blames_env=result.get("cause_from") == "environment",
    )


def words_of(words: list[Any]) -> tuple[str, ...]:
    """Select the words that a run goes on with: the last on each key, in the order in which they were typed."""
    last = {str(word).lstrip("+").partition("=")[0]: printable(word) for word in words}
    return tuple(last.values())


def printable(text: object) -> str:
    """Copy a text that a stranger may have written, without characters that move a terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def refuse(folder: Path, links: Sequence[str]) -> None:
    """Raise UserError if there are links that lead out of a run directory to what would be read."""
    if links:
        raise UserError(f"{folder / links[0]} leads out of the run directory, and is not read: copy the file there")


def read_all_curves(folder: Path, away: Sequence[str]) -> dict[str, Curve]:
    """Read a run's curves: from curves.npz where its last session has ended, else from TensorBoard's files.

    Args:
        folder: the run directory.
        away: links in it that lead out of it.
    """
    found = read_curve_file(folder)
    if found is not None or not has_events(folder):
        return found or {}
    refuse(folder, [link for link in away if link.startswith(EVENTS)])
    from pgrun.run.curves import read_curves  # takes seconds to import

    return read_curves(folder)


def has_events(folder: Path) -> bool:
    """Tell whether a run has files of TensorBoard's."""
    return any(name.startswith(EVENTS) for name in os.listdir(folder))


def explain_lack(folder: Path, run: Evidence) -> str:
    """Say why a run has no curves."""
    if not run.result:
        return f"{folder} holds no curves yet: let it run for some log.every steps"
    status, steps = str(run.result.get("status")), run.steps
    ended = f"was {status}" if status in ("interrupted", "pruned") else status
    if has_events(folder) or (folder / FILE).exists():
        every = run.setting("log.every", "?")
        return f"{folder} holds no curves: it {ended} after {steps:,} steps, before its first point (log.every={every})"
    return f"{folder} has lost its curves: {FILE} and {EVENTS}* are missing, and it {ended} after {steps:,} steps"
