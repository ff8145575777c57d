"""A run's log: its lines in pgrun.log, and on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def logged(folder: Path | None, *, quiet: bool = False) -> Iterator[None]:
    """Append what is logged in the block to a run's pgrun.log; print it, too, unless the caller has logging of his own.

    Args:
        folder: the run directory; None: only print.
        quiet: print warnings and errors alone.
    """
    root, own = logging.getLogger(), logging.getLogger("pgrun")
    level, raises, heard = own.level, logging.raiseExceptions, list(root.handlers)
    handlers: list[logging.Handler] = []
    if folder is not None:
        handlers.append(logging.FileHandler(folder / "pgrun.log", encoding="utf-8"))
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
            if isinstance(handler, logging.FileHandler):
                handler.close()
