"""Checking whether a run's files are as the run wrote them: its config, provenance, results and checkpoints."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from pgrun.errors import UserError
from pgrun.run.checkpoint_files import LIST, POINTERS, beside, read_list, sha256, sum_line
from pgrun.run.console import shown
from pgrun.run.directory import check_run
from pgrun.run.manifest import ABSENT, MANIFEST, Damaged, read
from pgrun.system.atomic import told

CHECKPOINT = re.compile(r"(step|best)_\d+(_\d+)?\.pt")


@dataclass
class Verified:
    """The outcome of a check.

    Args:
        files: how many files were checked.
        problems: one line for each file that is not as it was written.
    """

    files: int = 0
    problems: list[str] = field(default_factory=list)

    def note(self, problem: str) -> None:
        """Count a file, and note what is wrong with it, if anything is."""
        self.files += 1
        if problem:
            self.problems.append(problem)


def verify_run(folder: Path) -> Verified:
    """Compare a run's files with the hashes that were written with them.

    A run that was killed at any moment, or that still goes on, has nothing wrong with it.

    Args:
        folder: the run directory.

    Raises:
        UserError: it is no run directory, has no hashes, or can't be read.
    """
    check_run(folder)
    found = Verified()
    with told("can't read", folder):
        listed = read_list(folder / "checkpoints")
        try:
            known = read(folder)
        except Damaged:
            found.note(f"{MANIFEST} is not as it was written")
            known = {}
        if known is None and listed is None:
            raise UserError(
                f"{shown(folder)} has no {MANIFEST}: an older version made the run, or it ended before its first update"
            )
        if known:
            found.note("")
        for name, digests in (known or {}).items():
            found.note(wrong_with(folder / name, name, digests))
        check_checkpoints(folder / "checkpoints", listed or {}, found)
        if known and finished(folder):
            note_missing(folder / "checkpoints", listed, found)
    return found


def finished(folder: Path) -> bool:
    """Tell whether a run came to its end, and so has a last checkpoint and a list of those that it kept."""
    try:
        result = json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(result, dict) and result.get("status") == "finished"


def note_missing(folder: Path, listed: dict[str, str] | None, found: Verified) -> None:
    """Note what a finished run left in its folder of checkpoints and is no longer there.

    What the run deleted itself, beyond checkpoint.keep, is no longer in its list.

    Args:
        folder: the folder of checkpoints.
        listed: what the list says was left; None where there is no list.
        found: takes the notes.
    """
    if listed is None:
        found.note(f"checkpoints/{LIST} is missing")
    for name in listed or {}:
        if not os.path.lexists(folder / name):
            found.note(f"checkpoints/{name} is missing")
    for pointer, kind in POINTERS.items():
        due = pointer == "latest.pt" or any(name.startswith(kind) for name in listed or {})
        if due and not os.path.lexists(folder / pointer):
            found.note(f"checkpoints/{pointer} is missing")


def wrong_with(path: Path, name: str, digests: list[str]) -> str:
    """Say what is wrong with a file; "" if nothing is."""
    now = sha256(path) if path.is_file() else ABSENT
    if now in digests:
        return ""
    return f"{name} is missing" if now == ABSENT else f"{name} is not as it was written"


def check_checkpoints(folder: Path, listed: dict[str, str], found: Verified) -> None:
    """Check the checkpoints of a folder against their list, and against the sums beside them."""
    if not folder.is_dir():
        return
    if (folder / LIST).exists():
        whole = b"".join(sum_line(digest, name) for name, digest in listed.items())
        found.note("" if (folder / LIST).read_bytes() == whole else f"checkpoints/{LIST} is not as it was written")
    for path in sorted(path for path in folder.iterdir() if CHECKPOINT.fullmatch(path.name)):
        name = f"checkpoints/{path.name}"
        digest = sha256(path)
        if path.name not in listed:
            found.note(f"{name} is not in the list of what the run wrote")
            continue
        found.note("" if digest == listed[path.name] else f"{name} is not as it was written")
        sums = beside(path)
        if not sums.exists():
            found.note(f"{name}.sha256 is missing")
        else:
            right = sums.read_bytes() == sum_line(listed[path.name], path.name)
            found.note("" if right else f"{name}.sha256 is not as it was written")
    for pointer in POINTERS:
        path = folder / pointer
        if path.is_symlink() and not path.exists():
            found.note(f"checkpoints/{pointer} points to {os.readlink(path)}, which is missing")
        elif path.exists() and not path.is_symlink():
            found.note("" if sha256(path) in listed.values() else f"checkpoints/{pointer} is not as it was written")
