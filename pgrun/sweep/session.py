"""One session of a sweep: the state of the process that runs it, from the first job to the table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from pgrun.errors import UserError
from pgrun.run.claim import NewFolders, impossible, unmakeable
from pgrun.run.console import say, shown
from pgrun.run.result_file import write_json
from pgrun.sweep.folder import BEGUN, JOBS, arguments_of, check_same
from pgrun.system.lock import Lock
from pgrun.trust.files import links_away


class SweepSession:
    """The directory of a sweep while this process runs it, with notes of launchers and samplers on its jobs.

    Launchers find it as `session` of the task function that Hydra gives them.

    Args:
        folder: the sweep's directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, os.getpid()
        self.lock = Lock(folder / ".lock")
        self.made = NewFolders()
        self.before: set[str] = set()  # names in the directory before this session
        self.over_before: set[str] = set()  # jobs that were over before this session
        self.replaced: set[str] = set()  # jobs that failed and were done again in another folder

    def begin(self, argv: Sequence[str]) -> Self:
        """Make or enter the directory, and lock it for this process.

        Args:
            argv: the sweep's command line.

        Returns:
            This session.

        Raises:
            UserError: another process runs this sweep, the directory holds another sweep, or it can't be made.
        """
        named, folder = f"hydra.sweep.dir={self.folder}", self.folder
        if (error := impossible(folder.absolute())) is not None:
            raise UserError(unmakeable(named, error))
        try:
            if away := links_away(folder):
                raise UserError(f"{folder}: {away[0]} leads out of it; choose another hydra.sweep.dir")
            self.made.make(folder.absolute())
            self.before = {file.name for file in folder.iterdir()}
            if not self.lock.take():
                raise UserError(f"{folder}: {self.lock.holder()} is at this very sweep; wait for it, or end it")
            begun = folder / BEGUN
            if begun.exists():
                check_same(folder, arguments_of(begun) or [], argv)
            else:
                (folder / JOBS).touch()
                write_json(begun, {"arguments": list(argv)})
        except (OSError, UserError) as caught:
            if self.held:
                self.withdraw()
                self.lock.free()
            self.made.remove()
            if isinstance(caught, UserError):
                raise
            raise UserError(unmakeable(named, caught)) from caught
        return self

    @property
    def held(self) -> bool:
        """Return whether this session holds the directory's lock."""
        return self.lock.file is not None

    def here(self) -> bool:
        """Return whether this process runs the sweep, and is not one that runs its jobs."""
        return self.held and self.process == os.getpid()

    def withdraw(self) -> None:
        """Leave the directory as it was, if the sweep was refused before a job began."""
        if BEGUN in self.before:  # it is an earlier session's, and may hold its trials
            return
        with suppress(OSError):  # submitit's folder, if empty
            (self.folder / ".submitit").rmdir()
        new = {file.name for file in self.folder.iterdir()} - self.before
        if new <= {self.lock.path.name, BEGUN, JOBS, "multirun.yaml", "optuna.journal"}:
            for name in new:
                (self.folder / name).unlink()
            self.made.remove()

    def free(self) -> None:
        """Release the directory for other processes."""
        self.lock.free()

    def conclude(self, *, minimize: bool, records: str | None) -> int:
        """Print the table of the jobs.

        Args:
            minimize: whether the lowest evaluation is the best.
            records: the name of Hydra's folder in a job's folder, which holds the job's command line.

        Returns:
            The sweep's exit code.
        """
        from pgrun.sweep.table import table  # imported here, since it loads numpy

        code = table(self.folder, self.over_before, self.replaced, minimize=minimize, records=records)
        say(f"sweep directory  {shown(self.folder.resolve())}")
        return code
