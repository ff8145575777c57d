"""The line on a path that should be a run directory and is none, with the run that may be meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pgrun.run.console import pasted, shown

SIGNS = (".hydra/config.yaml", "run.json", "checkpoints/latest.pt")  # files that a run directory has
USUAL = ("runs", "multirun")  # where runs lie if nothing else is said
MOST = 5000  # folders that are looked through


def why_no_run(path: Path) -> str:
    """Say in one line why a path is no run directory, and which run it may stand for.

    Args:
        path: exists, and is no run directory.
    """
    within = next((folder for folder in path.absolute().parents if is_run(folder)), None)
    if path.is_file():
        said = f"{path} is a file, no run directory"
        return said if within is None else f"{said}; its run is {shown(within)}"
    if within is not None:
        return f"{path} is no run directory: it lies in one; its run is {shown(within)}"
    latest = None if is_run(path) else max(runs_below(path), key=written_at, default=None)
    if latest is None:
        return f"{path} is no run directory: it has no .hydra/config.yaml"
    usual = path.absolute() in [Path(name).absolute() for name in USUAL]
    listing = "pgrun runs" if usual else f"pgrun runs {pasted(path.absolute())}"
    where = shown(latest.absolute())
    return f"{path} is no run directory but a folder above runs; the latest is {where}; {listing} lists them"


def is_run(folder: Path) -> bool:
    """Tell whether a folder is a run's, by the files in it."""
    return any((folder / sign).exists() for sign in SIGNS)


def runs_below(folder: Path) -> Iterator[Path]:
    """Find run directories below a folder, without following links; of very many folders not in all."""
    for number, (place, names, _) in enumerate(os.walk(folder)):
        if number == MOST:
            return
        if is_run(Path(place)):
            names.clear()
            yield Path(place)
        names[:] = [name for name in names if not name.startswith(".")]


def written_at(folder: Path) -> float:
    """Return when a run last wrote its record or its result."""
    files = (folder / name for name in ("result.json", *SIGNS))
    return max(file.stat().st_mtime for file in files if file.exists())
