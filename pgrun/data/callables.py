"""The arguments that a callable takes."""

from __future__ import annotations

import inspect
from typing import Any


def accepted(target: Any) -> dict[str, inspect.Parameter]:
    """Find what a callable takes, by name; a class that passes **kwargs on also takes what its base classes take."""
    if not inspect.isclass(target):
        return dict(inspect.signature(target).parameters)
    found: dict[str, inspect.Parameter] = {}
    for cls in target.__mro__:
        if "__init__" not in vars(cls):
            continue
        own = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
        named = {k: p for k, p in own.items() if k != "self" and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        found = {**named, **found}
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            return found
    return dict(inspect.signature(target).parameters)
