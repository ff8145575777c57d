"""A folder of files that take long to make, for all runs of a user: bounded, and written by nobody else."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pgrun.errors import UserError
from pgrun.system.lock import Lock, NoLocks

LARGEST = 1_000_000_000  # bytes of all files together
VARIABLE = "PGRUN_CACHE"


def cache_folder() -> Path:
    """Name the folder: `PGRUN_CACHE`, or `pgrun` in the user's folder of caches."""
    if own := os.environ.get(VARIABLE):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pgrun"


def libraries_folder() -> Path:
    """Name the folder of compiled code."""
    return cache_folder() / "compiled"


class Artifacts:
    """Files in one folder, each under the hash of all that decides it and the hash of its own content.

    Args:
        folder: it is made where it is missing, for its owner alone.
        suffix: of the files' names.
        largest: bytes of all files together; what was used longest ago goes first.

    Raises:
        UserError: the folder can't be made, or others may write there.
    """

    def __init__(self, folder: Path, suffix: str, largest: int = LARGEST) -> None:
        self.folder, self.suffix, self.largest = folder, suffix, largest
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            state = folder.stat()
        except OSError as error:
            raise UserError(
                f"{folder}, where compiled code is kept, can't be made ({error.strerror}): "
                f"name another folder in {VARIABLE}"
            ) from error
        if state.st_uid != os.getuid() or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UserError(
                f"{folder}, where compiled code is kept, is not yours alone: others could put theirs there. "
                f"Use chmod 700 {folder}, or name another folder in {VARIABLE}"
            )

    def get(self, key: str, make: Callable[[Path], None]) -> Path:
        """Return the file of a key; make it if it isn't there.

        Args:
            key: letters and digits that name all that decides the content.
            make: writes the file at a path that it is given.
        """
        if found := self.find(key):
            return found
        lock = Lock(self.folder / f"{key}.lock")
        with suppress(NoLocks):
            lock.wait()  # another process may be making the same
        try:
            return self.find(key) or self.add(key, make)
        finally:
            lock.free()
            (self.folder / f"{key}.lock").unlink(missing_ok=True)

    def find(self, key: str) -> Path | None:
        """Return the file of a key if it is there and as it was written; a broken one is deleted."""
        for path in self.folder.glob(f"{key}-*{self.suffix}"):
            if digest(path) == path.stem.partition("-")[2]:
                os.utime(path)
                return path
            path.unlink(missing_ok=True)
        return None

    def add(self, key: str, make: Callable[[Path], None]) -> Path:
        """Make the file of a key."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="making-") as there:
            made = Path(there) / f"{key}{self.suffix}"
            make(made)
            path = self.folder / f"{key}-{digest(made)}{self.suffix}"
            os.replace(made, path)
        self.bound(path)
        return path

    def files(self) -> list[Path]:
        """List the files, the ones that were used last at the end."""
        return sorted(self.folder.glob(f"*-*{self.suffix}"), key=lambda path: path.stat().st_mtime)

    def size(self) -> int:
        """Return the bytes of all files together."""
        return sum(path.stat().st_size for path in self.files())

    def bound(self, newest: Path) -> None:
        """Delete what was used longest ago while all together are too large."""
        size = self.size()
        for path in self.files():
            if size <= self.largest or path == newest:
                return
            size -= path.stat().st_size
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all files, and what processes that were killed left."""
        for path in self.files():
            path.unlink(missing_ok=True)
        for left in self.folder.glob("making-*"):
            shutil.rmtree(left, ignore_errors=True)


def digest(path: Path) -> str:
    """Return a hash of a file's content."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
