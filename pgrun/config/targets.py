"""Find the class or function that a dotted name such as a `_target_` names, and say why there is none."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from pgrun.errors import UserError, told


class NotThere(UserError):
    """A dotted name that names nothing."""


def find(name: str) -> Any:
    """Return what a dotted name names; its module is imported, which may raise anything.

    Args:
        name: as module.Class.

    Raises:
        NotThere: there is no such module, or it has no such name.
    """
    parts = name.split(".")
    for depth in range(max(1, len(parts) - 1), 0, -1):  # a name in a package comes before a module of that name
        module = ".".join(parts[:depth])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
                continue
            raise
        for part in parts[depth:]:
            if not hasattr(found, part):
                near = difflib.get_close_matches(part, [own for own in dir(found) if own[:1] != "_"], 1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise NotThere(f"{getattr(found, '__name__', module)} has no {part}{hint}")
            found = getattr(found, part)
        return found
    raise NotThere(f"there is no module {parts[0]}; a module of yours is found in the folder where pgrun runs")


def why_not(error: Exception) -> str:
    """Say in one line why `find` raised an error."""
    return str(error) if isinstance(error, NotThere) else told(error)
