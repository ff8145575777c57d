"""A run's log: its lines in pgrun.log, and on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def logged(folder: Path, *, quiet: bool = False) -> Iterator[None]:
    """Append what is logged in the block to a run's pgrun.log; print it, too, unless the caller has logging of his own.

    Args:
        folder: the run directory.
        quiet: print warnings and errors alone.
    """
    root, own = logging.getLogger(), logging.getLogger("pgrun")
    level, raises, heard = own.level, logging.raiseExceptions, list(root.handlers)
    to_file = logging.FileHandler(folder / "pgrun.log", encoding="utf-8")
    handlers: list[logging.Handler] = [to_file]
    if not heard:
        to_user = logging.StreamHandler(sys.stderr)
        to_user.setLevel(logging.WARNING if quiet else logging.INFO)
        handlers.append(to_user)
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(handler)
    own.setLevel(min(own.getEffectiveLevel(), logging.INFO))
    logging.raiseExceptions = False  # on a full disk, each line for pgrun.log would become a traceback
    try:
        yield
    finally:
        own.setLevel(level)
        logging.raiseExceptions = raises
        for handler in handlers:
            root.removeHandler(handler)
        to_file.close()
