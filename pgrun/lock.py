"""A lock that dies with its process, which others can ask whether it is still there."""

from __future__ import annotations

import fcntl
import os
import socket
import time
import uuid
from pathlib import Path


class Lock:
    """A file that one process at a time holds; it is free as soon as that process is gone, however it went.

    A POSIX record lock, since those are not inherited by forks (which may outlive the process), and hold over the
    network on shared file systems. A process must not open the file a second time: closing any copy frees it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.token = path, uuid.uuid4().hex
        self.file: int | None = None

    def take(self) -> bool:
        """Take it if it is free; -> whether it is ours now."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.write(file, f"{self.token} {os.getpid()} {socket.gethostname()}".encode())
        self.file = file
        return True

    def wait(self) -> None:
        """Take it when it is free."""
        while not self.take():
            time.sleep(0.2)

    def free(self) -> None:
        """Give it back."""
        if self.file is not None:
            os.close(self.file)
            self.file = None

    def holder(self) -> str:
        """Who has it, in words."""
        words = self.path.read_text().split() if self.path.exists() else []
        return f"process {words[1]} on {words[2]}" if len(words) == 3 else "another process"


def held(path: Path, token: str) -> bool:
    """Whether the process that took the lock under this token still has it; asked by another process."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        if os.read(file, 32).decode() != token:
            return False
        os.lseek(file, 0, os.SEEK_SET)
        os.lockf(file, os.F_TEST, 0)
        return False
    except OSError:
        return True
    finally:
        os.close(file)
