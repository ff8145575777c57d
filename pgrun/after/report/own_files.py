"""The files that reports wrote into a folder, known by a list there: nobody else's file is overwritten or deleted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pgrun.errors import UserError
from pgrun.run.checkpoint_files import sha256, sum_line
from pgrun.run.console import shown
from pgrun.system.atomic import replace, told
from pgrun.trust.files import read_text

LIST = ".written-by-pgrun-report"
LINE = re.compile(r"([0-9a-f]{64})  ([\w-][\w.-]*)")  # as `sha256sum` writes it


def written(folder: Path) -> dict[str, set[str]]:
    """Read which files reports wrote into a folder: by name the SHA-256 sums that they may have."""
    found: dict[str, set[str]] = {}
    for line in (read_text(folder / LIST, errors="replace") or "").splitlines() if folder.is_dir() else ():
        if match := LINE.fullmatch(line):
            found.setdefault(match[2], set()).add(match[1])
    return found


def check_free(folder: Path, names: Iterable[str]) -> None:
    """Raise UserError where a file is in the way that no report wrote, or that was changed since."""
    with told("can't read", folder):
        known = written(folder)
        for name in names:
            path = folder / name
            if (path.exists() or path.is_symlink()) and sha256(path) not in known.get(name, ()):
                raise UserError(
                    f"{shown(path.absolute())} would be overwritten, and no report wrote it as it is: move it away, or "
                    "choose another folder by -o"
                )


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a report's files into a folder, and delete those that an earlier report left there and this one lacks.

    Raises:
        UserError: a file that no report wrote is in the way, or one can't be written.
    """
    check_free(folder, files)
    with told("can't write into", folder):
        folder.mkdir(parents=True, exist_ok=True)
        before = written(folder)
        new = {name: {hashlib.sha256(content).hexdigest()} for name, content in files.items()}
        both = {name: before.get(name, set()) | new.get(name, set()) for name in {**before, **new}}
        write_list(folder, both)  # so that a report that is cut off leaves only files that the next one knows
        for name, content in files.items():
            replace(folder / name, content)
        for name in before.keys() - new.keys():
            if sha256(folder / name) in before[name]:
                (folder / name).unlink()
        write_list(folder, new)


def write_list(folder: Path, sums: Mapping[str, set[str]]) -> None:
    """Write the list of files that reports wrote."""
    replace(folder / LIST, b"".join(sum_line(digest, name) for name in sums for digest in sorted(sums[name])))
