"""Methods of a user's class that are nearly called as one of its base's, which would then be used instead."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from pgrun.errors import UserError

LIBRARIES = ("torch", "gymnasium", "typing", "builtins", "abc")  # whose classes pgrun's own build on
NEAR = 0.85  # the likeness of two names from which on one may be meant as the other


def check_methods(kind: Any, where: str) -> None:
    """Refuse a class of the user's with a method whose name is nearly that of one that it inherits from pgrun.

    Args:
        kind: the class; anything else is let pass.
        where: the class, in words.

    Raises:
        UserError: a method is nearly called as an inherited one that the class doesn't override.
    """
    if not inspect.isclass(kind):
        return
    pgruns = [layer for layer in kind.__mro__ if layer.__module__.split(".")[0] == "pgrun"]
    users = [layer for layer in kind.__mro__ if layer.__module__.split(".")[0] not in ("pgrun", *LIBRARIES)]
    own = [name for layer in users for name in methods(layer)]
    known = {name for layer in pgruns for name in vars(layer)}
    left = sorted({name for layer in pgruns for name in methods(layer)} - set(own))
    for name in own:
        near = difflib.get_close_matches(name, left, 1, NEAR)
        if near and name not in known and f"{name}s" != near[0]:  # one's own `step` is not meant as `steps`
            raise UserError(
                f"{where} has a method {name}, which pgrun doesn't call; did you mean {near[0]}? (if not, call it "
                "something less like it)"
            )


def methods(layer: type) -> list[str]:
    """List the public methods that a class itself defines."""
    return [name for name, x in vars(layer).items() if inspect.isfunction(x) and name[:1] != "_"]
