"""Find the user's own modules: those that a trusted config names, in the folders where they may lie, and no others.

The working directory is not on Python's search path: a `tensorflow.py` that lies there is nobody's tensorflow. A name
that a config gives is found there, and whatever a module from there imports in turn.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType
from typing import Any

VARIABLE = "PGRUN_CODE"  # in the environment, by which child processes know the same folders and names
# these import modules for others: whoever called them asks for the module
PASSING = {"importlib", "pickle", "cloudpickle", "joblib", "hydra", "runpy", "pkgutil", "gymnasium", "multiprocessing"}


class UserCode(MetaPathFinder):
    """Finds the top-level modules and packages that a trusted config names, and what these import from beside them."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.names: set[str] = set()
        self.served: set[str] = set()  # names that were found here: what they import is found here, too

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return a module's spec if it is one of the user's that may be imported; see `importlib`."""
        if path is not None or "." in name or not self.folders:
            return None
        if name not in self.names and not (self.served and (self.asks(sys._getframe(1)) or registered(name))):
            return None
        spec = PathFinder.find_spec(name, self.folders)
        if spec is not None and name not in self.served:
            self.served.add(name)
            self.publish()
        return spec

    def asks(self, frame: FrameType | None) -> bool:
        """Return whether a module that was found here is what imports now."""
        while frame is not None:
            top = str(frame.f_globals.get("__name__", "")).split(".")[0].removeprefix("_frozen_")
            if top not in PASSING:
                return top in self.served
            frame = frame.f_back
        return False

    def publish(self) -> None:
        """Let child processes find the same."""
        os.environ[VARIABLE] = json.dumps({"folders": self.folders, "names": sorted(self.names | self.served)})


FINDER = UserCode()


def registered(name: str) -> bool:
    """Return whether an environment is registered with Gymnasium that is in this module."""
    registry = getattr(sys.modules.get("gymnasium"), "registry", {})
    points = (getattr(spec, "entry_point", None) for spec in registry.values())
    return any(isinstance(point, str) and point.partition(":")[0].split(".")[0] == name for point in points)


def begin(folders: Iterable[str]) -> None:
    """Begin a command: forget earlier folders and names, and look for what is allowed from now on in these folders."""
    FINDER.folders, FINDER.names, FINDER.served = list(dict.fromkeys(folders)), set(), set()
    install()
    FINDER.publish()


def allow(names: Iterable[str], folders: Sequence[str] = ()) -> None:
    """Let modules of these top-level names be found, first in the folders that are given here.

    Args:
        names: of modules and packages.
        folders: where the run's own code lies.
    """
    FINDER.names = FINDER.names | set(names)
    FINDER.folders = list(dict.fromkeys([*folders, *FINDER.folders]))
    install()
    FINDER.publish()


def state() -> tuple[list[str], list[str]]:
    """Return the folders and the names, for a process on another machine."""
    return list(FINDER.folders), sorted(FINDER.names | FINDER.served)


@contextmanager
def kept() -> Iterator[None]:
    """Find after the block what was found before it."""
    before = FINDER.folders, FINDER.names, FINDER.served
    try:
        yield
    finally:
        FINDER.folders, FINDER.names, FINDER.served = before


def install() -> None:
    """Put the finder at the end of Python's, once."""
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)


def inherit() -> None:
    """Find what the process that started this one finds."""
    if given := os.environ.get(VARIABLE):
        try:
            content = json.loads(given)
            FINDER.folders, FINDER.names = list(content["folders"]), set(content["names"])
        except (ValueError, TypeError, KeyError):
            return
        install()
