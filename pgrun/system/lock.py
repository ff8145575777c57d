"""A file lock that is released when its process exits, and that other processes can look at."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
import uuid
from pathlib import Path

from pgrun.errors import UserError


class NoLocks(UserError):
    """Raised for a file system that has no locks."""


class Lock:
    """A file that one process at a time holds; it is free as soon as that process is gone, however it ended.

    It is a POSIX record lock: those are not inherited by forks (which may outlive the process), and they hold over the
    network on shared file systems. A process must not open the file a second time: closing any copy frees the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.token = path.absolute(), uuid.uuid4().hex
        self.file: int | None = None

    def take(self) -> bool:
        """Take the lock if it is free, and return whether this process has it now.

        Raises:
            UserError: the file can't be made, or (NoLocks) its file system has no locks.
        """
        there = self.path.exists()
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)
        except OSError as error:
            raise UserError(f"{self.path} can't be written: {error.strerror}") from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            self.remove(there)
            raise NoLocks(f"{self.path}: its file system has no locks ({error.strerror}): choose another") from error
        try:
            if not os.path.samestat(os.fstat(file), os.stat(self.path)):
                raise FileNotFoundError(errno.ENOENT, "another process has just withdrawn")
            os.ftruncate(file, 0)
            os.write(file, f"{self.token} {os.getpid()} {socket.gethostname()}".encode())
        except OSError as error:
            self.remove(there)
            os.close(file)
            raise UserError(f"{self.path} can't be written: {error.strerror}") from error
        self.file = file
        return True

    def remove(self, there: bool) -> None:
        """Delete the file, unless it was there before."""
        if not there:
            self.path.unlink(missing_ok=True)

    def wait(self) -> None:
        """Take the lock as soon as it is free."""
        while not self.take():
            time.sleep(0.2)

    def free(self) -> None:
        """Release the lock."""
        if self.file is not None:
            os.close(self.file)
            self.file = None

    def holder(self) -> str:
        """Say in words which process has the lock."""
        words = self.path.read_text(encoding="utf-8").split() if self.path.exists() else []
        return f"process {words[1]} on {words[2]}" if len(words) == 3 else "another process"


def held(path: Path, token: str = "") -> bool:
    """Tell whether another process still has the lock that it took (under this token)."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if token and os.read(file, 32).decode() != token:
            return False
        os.lseek(file, 0, os.SEEK_SET)
        os.lockf(file, os.F_TEST, 0)
        return False
    except OSError:
        return True
    finally:
        os.close(file)
