"""Start real runs of pgrun in forks of a process that has imported it, which saves most of their starting time."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from faults import Disk

import pgrun.__main__
from pgrun.run import checkpoint_files as written
from pgrun.shell import cli

OUT = "out.txt"  # what a run prints


def start(
    words: tuple[str, ...], folder: Path, disk: Disk | None = None, *, out: str = OUT, err: str | None = None
) -> int:
    """Run `pgrun WORDS` in a folder, in a fork of this process, which has imported all it needs.

    Args:
        words: the command line.
        folder: the folder.
        disk: counts the calls that checkpoints make, or lets one fail.
        out: the file for its output, relative to the folder.
        err: the file for its stderr; None: the same.

    Returns:
        The process.
    """
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code: Any = 1
    try:
        os.setsid()
        os.chdir(folder)
        for stream, name in ((1, out), (2, err or out)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.modules["__main__"] = pgrun.__main__  # which processes that it spawns look for
        sys.argv = ["pgrun", *words]
        if disk is not None:
            watch(disk)
        code = cli.main(words)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if disk is not None:
            Path("calls.json").write_text(json.dumps(disk.calls))
        os._exit(code if isinstance(code, int) else 1)


def watch(disk: Disk) -> None:
    """Let a disk count only the calls that checkpoints make in this process."""
    disk.active = False
    for name in ("begin", "write"):

        def inside(*args: Any, call: Any = getattr(written.Written, name)) -> Any:
            disk.active = True
            try:
                return call(*args)
            finally:
                disk.active = False

        setattr(written.Written, name, inside)
    disk.__enter__()


def wait(process: int, seconds: float = 180.0) -> int | None:
    """Wait for a run, and kill it after so many seconds. None of its processes is left.

    Returns:
        The exit code; None if it was killed.
    """
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            kill_all(process)
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            kill_all(process)
            os.waitpid(process, 0)
            return None
        time.sleep(0.002)


def kill_all(process: int) -> None:
    """Send SIGKILL to a run and the processes that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def die() -> NoReturn:
    """End this process and those that it has started, as `kill -9` does."""
    os.killpg(0, signal.SIGKILL)
    raise AssertionError
