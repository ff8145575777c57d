"""A disk that fails, or a process that dies, at a chosen call; kills.py and tests of checkpoints use it."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from typing import Any

CALLS = ("mkdir", "open", "fsync", "replace", "symlink", "link", "unlink", "close")


class Disk:
    """Counts the calls by which this process writes files, and causes a fault at one of them.

    Args:
        fault: what to do there: raise an error, or die.
        at: the number of the call, from 0; None: only count.
        lasting: whether all later calls fail, too.
        active: count at once, or only while `active` is set.
    """

    def __init__(
        self, fault: Callable[[], None], *, at: int | None, lasting: bool = False, active: bool = True
    ) -> None:
        self.fault, self.at, self.lasting, self.active = fault, at, lasting, active
        self.calls: list[str] = []
        self.before: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Disk:
        for module, name, wrap in [*((os, name, self.counted) for name in CALLS), (builtins, "open", self.opened)]:
            call = getattr(module, name)
            self.before.append((module, name, call))
            setattr(module, name, wrap(name, call))
        return self

    def __exit__(self, *exception: object) -> None:
        for module, name, call in self.before:
            setattr(module, name, call)

    def count(self, name: str) -> None:
        """Count a call, and cause the fault if it is due."""
        if not self.active:
            return
        self.calls.append(name)
        n = len(self.calls) - 1
        if self.at is not None and (n == self.at or (self.lasting and n > self.at)):
            self.fault()

    def counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function of `os` so that its calls are counted; one that closes a file does so before it fails."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name == "close":
                call(*args, **kwargs)
                return self.count(name)
            self.count(name)
            return call(*args, **kwargs)

        return wrapped

    def opened(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the function `open` for files that are written."""

        def wrapped(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if "w" not in mode or not self.active:
                return call(path, mode, *args, **kwargs)
            self.count(name)
            return Halting(self, call(path, mode, *args, **kwargs))

        return wrapped


class Halting:
    """A file on such a disk: a write that fails has written half of its bytes."""

    def __init__(self, disk: Disk, file: Any) -> None:
        self.disk, self.file = disk, file

    def write(self, data: Any) -> int:
        """Write half, count the call, write the other half."""
        whole = bytes(data)
        half = len(whole) // 2
        self.file.write(whole[:half])
        self.file.flush()
        self.disk.count("write")
        self.file.write(whole[half:])
        return len(whole)

    def flush(self) -> None:
        """Count the call, and flush."""
        self.disk.count("flush")
        self.file.flush()

    def fileno(self) -> int:
        """Return the descriptor."""
        return int(self.file.fileno())

    def __enter__(self) -> Halting:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()
