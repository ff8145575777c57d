"""The lock of a run's directory, which only one process may hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgrun.errors import UserError
from pgrun.run.console import remark, shown
from pgrun.system.lock import Lock, NoLocks


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a run directory for the block, as far as its file system has locks.

    Raises:
        UserError: another process uses this run, or nothing can be written there.
    """
    lock = Lock(folder / ".lock")
    take_alone(lock)
    try:
        yield
    finally:
        lock.free()


def take_alone(lock: Lock) -> None:
    """Take the lock of a run directory, or warn if the file system has no locks.

    Raises:
        UserError: another process uses this run, or nothing can be written there.
    """
    try:
        if not lock.take():
            folder = shown(lock.path.parent)
            raise UserError(f"{folder}: {lock.holder()} is at this very run; wait for it, or end it")
    except NoLocks as error:
        remark(f"pgrun: {str(error).rpartition(':')[0]}, so nothing keeps a second process from this run")
