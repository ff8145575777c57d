"""Claim a directory for a new run before anything is written there, and give it back unchanged if the run fails."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from pgrun.errors import UserError
from pgrun.run.alone import take_alone
from pgrun.run.console import abridged, pasted
from pgrun.system.lock import Lock, held

LOCK = ".lock"
LONGEST = "checkpoints/.step_1000000000000.pt.sha256.pgrun-tmp"  # the longest name within a run directory
# files that a run writes
RUN_FILES = (
    *(".hydra", "pgrun.log", "checkpoints", "events.out.tfevents.*", "run.json", "curves.npz"),
    *("result.json", "provenance.json", "code.diff", "manifest.json"),
)


class NewFolders:
    """The directories that were made for a run or a sweep, so that they can be removed again."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def make(self, folder: Path) -> bool:
        """Make a directory and its parents, and return whether this process made it."""
        for path in (*reversed(folder.parents), folder):
            try:
                if not path.is_dir():
                    path.mkdir()
                    self.paths.append(path)
            except FileExistsError:  # another process has made it meanwhile
                if not path.is_dir():
                    raise
        return folder in self.paths

    def make_free(self, path: Path) -> str:
        """Make this directory, or if it exists the first free one of _2, _3, …, and return its name."""
        self.make(path.parent.absolute())
        candidate, number = path, 1
        while os.path.lexists(candidate) or not self.make(candidate.absolute()):
            number += 1
            candidate = Path(f"{path}_{number}")
        return str(candidate)

    def remove(self) -> None:
        """Remove the directories, as far as they are empty."""
        while self.paths:
            with suppress(OSError):
                self.paths.pop().rmdir()


class Claim:
    """A directory that only this process may use, for a run that is about to begin there.

    Raises:
        UserError: it holds a run, another process has it, or it can't be made.
    """

    def __init__(self, folder: Path, named: str, records: str | None, made: NewFolders | None = None) -> None:
        """Take the directory.

        Args:
            folder: the directory.
            named: how to call it in messages.
            records: the name of Hydra's folder for the config in it.
            made: the folders that were made for it already.
        """
        self.folder, self.kept = folder.absolute(), False
        self.files = {LOCK, *RUN_FILES, *([Path(records).parts[0]] if records else [])}
        self.made = made or NewFolders()
        refuse_taken(self.folder, named, records)
        try:
            self.made.make(self.folder)
            self.before = set(os.listdir(self.folder))
            self.lock = Lock(self.folder / LOCK)
            take_alone(self.lock)
            refuse_taken(self.folder, named, records, but_lock=True)  # a run may have begun and ended meanwhile
        except OSError as error:
            self.made.remove()
            raise UserError(unmakeable(named, error)) from error
        except UserError:
            self.made.remove()
            raise

    def keep(self) -> None:
        """Keep the directory for a run that has begun; only `take_back` can still undo it."""
        self.kept = True

    def take_back(self) -> None:
        """Remove the files of a run that ended before its first step, and leave the directory as it was."""
        self.lock.free()
        for path in {path for name in self.files for path in self.folder.glob(name) if path.name not in self.before}:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.made.remove()

    def withdraw(self) -> None:
        """Leave the directory as it was, if the run did not begin."""
        self.lock.free()
        if self.kept:
            return
        with suppress(OSError):
            for name in set(os.listdir(self.folder)) - self.before:
                path = self.folder / name
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.made.remove()


def refuse_empty(key: str, named: str) -> None:
    """Raise UserError if a directory's name is empty, which Hydra takes for the working directory."""
    if not named.strip():
        raise UserError(f"{key} is empty: name a directory, as {key}=runs/mine, or leave it out ({key}=. is this one)")


def refuse_foreign(launcher: str, folder: Path) -> None:
    """Raise UserError if a launcher that is not pgrun's would run a sweep in a directory that is not empty.

    With such a launcher, Hydra writes into each job's folder before pgrun is asked.

    Args:
        launcher: the full name of its class.
        folder: the sweep's directory.
    """
    if not launcher.startswith("hydra_plugins.pgrun_plugins.") and folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            f"hydra.sweep.dir={folder} is not empty, and {launcher} is not pgrun's: it would write over what is there. "
            "Give it a new directory, or use hydra/launcher=basic, joblib, ray or slurm, which go on with a sweep"
        )


def refuse_taken(folder: Path, named: str, records: str | None, *, but_lock: bool = False) -> None:
    """Raise UserError if a directory holds a run, is in use, or can't be made. Nothing is written.

    Args:
        folder: the directory.
        named: how to call it in messages.
        records: the name of Hydra's folder for the config in it.
        but_lock: don't look at the directory's lock.
    """
    if (error := impossible(folder)) is not None:
        raise UserError(unmakeable(named, error))
    lock = folder / LOCK
    if not but_lock and held(lock):
        raise UserError(f"{named}: {Lock(lock).holder()} is at a run there; wait for it, or choose another directory")
    if holds_run(folder, records):
        more = f"go on with it by pgrun resume {pasted(folder)}, or choose another"
        raise UserError(f"{named} holds a run already: {more}")


def holds_run(folder: Path, records: str | None = None) -> bool:
    """Return whether a directory holds anything of a run: a config, a log, checkpoints or a result.

    Args:
        folder: the directory.
        records: the name of Hydra's folder for the config in it, if not .hydra.
    """
    names = {".hydra", records or ".hydra", "result.json", "pgrun.log"}
    return any((folder / name).exists() for name in names) or any(folder.glob("checkpoints/*.pt.sha256"))


def impossible(folder: Path) -> OSError | None:
    """Return the error that making a directory of this name would raise; None if it can be made.

    The name may be too long for the disk, or a file may be in its way.
    """
    there, missing = Path(folder.anchor), False
    for part in folder.parts[1:]:
        try:
            os.lstat(there / part) if missing else os.stat(there / part)
            there = there if missing else there / part
        except FileNotFoundError:
            missing = True
            if (there / part).is_symlink():
                return OSError(errno.ENOENT, "it is a link to what is not there", str(there / part))
        except OSError as error:
            if not missing or error.errno == errno.ENAMETOOLONG:
                return error
    if not missing and not folder.is_dir():
        return NotADirectoryError(errno.ENOTDIR, "Not a directory", str(folder))
    try:
        os.lstat(folder / LONGEST)
    except OSError as error:
        return error if error.errno == errno.ENAMETOOLONG else None
    return None


def unmakeable(named: str, error: OSError) -> str:
    """Describe in one line that a directory can't be made, and why."""
    where = Path(str(error.filename)) if error.filename else None
    place = f" ({abridged(str(where))})" if where is not None and str(where) not in named else ""
    return f"{abridged(named)} can't be made: {error.strerror or error}{place}; choose another"
