"""SummaryWriter's inside: a summary that has no method of its own, and the order of event files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FILES = "events.out.tfevents."  # how event files' names begin; the second in which they were made follows
SECOND = slice(len(FILES), len(FILES) + 10)


def add_summary(writer: Any, summary: Any, step: int | None = None) -> None:
    """Write a summary into a SummaryWriter's event file, as one event."""
    writer._get_file_writer().add_summary(summary, step)


def put_before(folder: Path, now: float) -> bool:
    """Give a folder's event files names that come before that of one made now; return whether there are any.

    TensorBoard reads them in the order of their names, and drops points of an earlier file where a later one says so. A
    name has the second in which a file was made, which decides nothing about two of the same second, or of a clock that
    was ahead. Such files get the second before this one.
    """
    files = sorted(folder.glob(f"{FILES}*"))
    if any(path.name[SECOND] >= f"{int(now):010d}" for path in files):
        for number, path in enumerate(files):  # all of them, so that they stay in order
            path.rename(path.with_name(f"{FILES}{int(now) - 1:010d}.{number:05d}{path.name[SECOND.stop :]}"))
    return bool(files)
