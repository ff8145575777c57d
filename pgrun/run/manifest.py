"""The manifest of a run: the SHA-256 of each file that it wrote whole, apart from checkpoints, which have their own.

What a file is about to become is written down before it does, beside what it is. So a run that is killed at any moment
leaves only files that the manifest knows.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from pgrun.system.atomic import replace

log = logging.getLogger("pgrun")

MANIFEST = "manifest.json"
ABSENT = ""  # in the place of a digest: the file may be missing
Known = dict[str, list[str]]  # by a file's path in the run directory, the digests that it may have


class Damaged(Exception):
    """A manifest that is not as it was written."""


def read(folder: Path) -> Known | None:
    """Read a run's manifest; None if it has none.

    Raises:
        Damaged: it is not as it was written.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        files = json.loads(data)["files"]
        whole = data == encoded(files)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged from error
    if not whole:
        raise Damaged
    return files


def encoded(files: Known) -> bytes:
    """Return a manifest's bytes, with their own digest in them."""
    content = {"files": files, "sha256": digest(json.dumps(files).encode())}
    return (json.dumps(content, indent=2) + "\n").encode()


def digest(data: bytes) -> str:
    """Compute the SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def readable(folder: Path) -> Known:
    """Read a run's manifest to go on with it; empty where there is none. A damaged one is begun anew."""
    try:
        return read(folder) or {}
    except Damaged:
        log.warning("%s is damaged: it is begun anew, and can't vouch for what was written before", folder / MANIFEST)
        return {}


def write_known(folder: Path, name: str, data: bytes) -> None:
    """Write one of a run's files in one piece, and its digest into the manifest.

    Raises:
        OSError: it can't be written; the manifest then knows the file as it was.
    """
    files, new = readable(folder), digest(data)
    path = folder / name
    before = files.get(name, [digest(path.read_bytes()) if path.is_file() else ABSENT])
    if before == [new] and path.is_file() and digest(path.read_bytes()) == new:
        return
    replace(folder / MANIFEST, encoded({**files, name: list(dict.fromkeys([*before, new]))}))
    replace(path, data)
    replace(folder / MANIFEST, encoded({**files, name: [new]}))


def delete_known(folder: Path, name: str) -> None:
    """Delete one of a run's files, if it is there, once the manifest knows that it may be missing."""
    path = folder / name
    if not path.exists():
        return
    files = readable(folder)
    if name in files:
        replace(folder / MANIFEST, encoded({**files, name: list(dict.fromkeys([*files[name], ABSENT]))}))
    path.unlink()


def enter(folder: Path, names: list[str]) -> None:
    """Enter files that somebody else has just written for the run, unless the manifest knows them already."""
    files = readable(folder)
    new = {name: [digest((folder / name).read_bytes())] for name in names if name not in files}
    if new:
        replace(folder / MANIFEST, encoded({**files, **new}))
