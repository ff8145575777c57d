"""The arguments that a callable takes."""

from __future__ import annotations

import inspect
from typing import Any


def accepted(target: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters of a callable by name; for a class that passes **kwargs on, its base classes' too."""
    if not inspect.isclass(target):
        return dict(inspect.signature(target).parameters)
    parameters: dict[str, inspect.Parameter] = {}
    for cls in target.__mro__:
        if "__init__" not in vars(cls):
            continue
        init = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
        named = {k: p for k, p in init.items() if k != "self" and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        parameters = {**named, **parameters}
        if not any(p.kind is p.VAR_KEYWORD for p in init.values()):
            return parameters
    return dict(inspect.signature(target).parameters)
