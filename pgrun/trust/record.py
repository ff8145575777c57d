"""The record of the runs that were made on this machine: in the user's own state folder, outside of the runs.

A run is known by a digest of its whole config and of the folders where its code is found. So one that was moved is
still known, and one whose config was changed is not. There is a file for each digest, which holds the folders, by
device and inode, in which such a run was made. `only` before one says that the run is known there alone: it was made
by `--trust`, and others of this config, the stranger's for one, stay a stranger's.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ONLY = "only "  # before a folder: the run there is known, and no other of its config


def state_folder() -> Path:
    """Return the folder of the record: `pgrun/runs` in `$XDG_STATE_HOME`, or in `~/.local/state`."""
    given = os.environ.get("XDG_STATE_HOME", "")
    base = Path(given) if Path(given).is_absolute() else Path("~/.local/state").expanduser()
    return base / "pgrun" / "runs"


def digest(config: dict[str, Any], places: Sequence[str]) -> str:
    """Compute the digest by which a run is known.

    Args:
        config: the whole config as plain values.
        places: the folders where its code is found.
    """
    text = json.dumps({"config": plain(config), "places": list(places)}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """Copy nested values as those that JSON has, keys as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def private(path: Path, kind: int) -> bool:
    """Return whether a path is of this kind, and nobody but its owner, who is this user, can write it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_IFMT(status.st_mode) == kind and status.st_uid == os.getuid() and not status.st_mode & 0o022


def made_here(mark: str, folder: Path | None = None) -> bool:
    """Return whether runs of this digest are known, wherever they lie; with a folder, whether the one there is.

    Args:
        mark: the digest.
        folder: the run directory.
    """
    place = state_folder()
    path = place / mark
    if not private(place, stat.S_IFDIR) or not private(path, stat.S_IFREG):
        return False
    with suppress(OSError):
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
        if folder is None:
            return any(not line.startswith(ONLY) for line in lines)
        return identity(folder) in (line.removeprefix(ONLY) for line in lines)
    return False


def known(mark: str, folder: Path) -> bool:
    """Return whether the run of this digest in this folder is known: there, or wherever such a run lies."""
    return made_here(mark) or made_here(mark, folder)


def identity(folder: Path) -> str:
    """Name a folder by its device and inode."""
    status = os.stat(folder)
    return f"{status.st_dev}:{status.st_ino}"


def write(marks: Sequence[str], folder: Path, *, only_there: bool = False) -> OSError | None:
    """Record that runs of these digests were made here, in this folder.

    Args:
        marks: the digests.
        folder: the run directory.
        only_there: whether a run of these digests that lies elsewhere stays unknown.

    Returns:
        The error, if the record can't be written.
    """
    place = state_folder()
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not private(place, stat.S_IFDIR):
            return PermissionError(0, "others can write it, or it is no folder of yours", str(place))
        line = f"{ONLY if only_there else ''}{identity(folder)}\n" if folder.is_dir() else "-\n"
        for mark in dict.fromkeys(marks):
            if (place / mark).exists() and made_here(mark, folder if folder.is_dir() else None):
                continue
            descriptor = os.open(place / mark, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(line)
    except OSError as error:
        return error
    return None


def complain(error: OSError, config: dict[str, Any]) -> None:
    """Say, once a process, that the record can't be written, if a run with code of the user's will miss it."""
    from pgrun.trust.code import needs_trust

    if needs_trust(config, ()) and not SAID:
        SAID.append(str(error))
        why = error.strerror or str(error)
        print(
            f"pgrun: {state_folder()} can't be written ({why}): for this run pgrun eval and resume will need --trust",
            file=sys.stderr,
            flush=True,
        )


SAID: list[str] = []
