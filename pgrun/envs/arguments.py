"""Arguments of environments and wrappers, checked against signatures, so that a refusal says whose they are.

YAML has no tuples: a list is passed as one if the signature says so, or if the list itself is refused.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pgrun.data.callables import accepted
from pgrun.errors import UserError, told

ABOUT = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
)  # errors that arguments may be to blame for
LONGEST = 240  # characters of a list of arguments


class Arguments:
    """The arguments that one environment or wrapper is called with.

    Args:
        target: the callable that takes them; None if that isn't known, and then nothing is checked.
        given: the arguments by name.
        label: whose they are, for refusals.
        way: how to give one, with {} for its name.
        first: how many positional arguments come before these (a wrapper's environment).
        others: names that somebody else takes or gives.

    Raises:
        UserError: an argument is missing, or unknown.
    """

    def __init__(
        self,
        target: Any,
        given: Mapping[str, Any],
        *,
        label: str,
        way: str,
        first: int = 0,
        others: Sequence[str] = (),
    ) -> None:
        self.label, self.given = label, dict(given)
        try:
            parameters = {} if target is None else accepted(target)
            own = {} if target is None else inspect.signature(target).parameters
        except (ValueError, TypeError):  # of compiled code
            parameters, own, target = {}, {}, None
        ordered = sorted(parameters.items(), key=lambda item: item[0] not in own)  # its own, then bases
        self.known = {
            name: p
            for name, p in ordered[first:]
            if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and name not in others
        }
        if target is None:
            return
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            for name in self.given:
                if name not in self.known and name not in others:
                    near = difflib.get_close_matches(name, self.known, 1)
                    hint = f" (did you mean {near[0]}?)" if near else ""
                    raise UserError(f"{label} takes no argument {name!r}{hint}; {self.takes}")
        # what a base class needs, its own constructor may give
        missing = [k for k, p in self.known.items() if p.default is p.empty and k in own and k not in self.given]
        if missing:
            ways = ", ".join(way.format(name) for name in missing)
            raise UserError(f"{label} needs {' and '.join(missing)}: give {ways}; {self.takes}")
        for name, value in self.given.items():
            if isinstance(value, list) and name in self.known and says_tuple(self.known[name]):
                self.given[name] = as_tuple(value)

    @property
    def takes(self) -> str:
        """The names of the arguments that can be given, as a part of a sentence."""
        names = ", ".join(self.known) or "none"
        return f"it takes {names if len(names) <= LONGEST else names[:LONGEST].rpartition(',')[0] + ', …'}"

    def call(self, make: Callable[..., Any], failed: str) -> Any:
        """Call with the arguments, with lists as tuples if lists are refused.

        Args:
            make: the callable.
            failed: what went wrong, for the message.

        Raises:
            UserError: it failed, and an argument may be to blame.
        """
        try:
            return make(**self.given)
        except ABOUT as error:
            tuples = {name: as_tuple(value) for name, value in self.given.items()}
            if tuples != self.given:
                try:
                    return make(**tuples)
                except Exception:
                    pass  # lists or not, it is the first error that says why
            if not self.given:
                raise
            values = ", ".join(f"{name}={value!r}" for name, value in self.given.items())
            values = values if len(values) <= LONGEST else values[:LONGEST] + "…"
            why = told(error).partition(" was raised from the environment creator")[0]  # which Gymnasium adds
            raise UserError(f"{self.label} {failed} with {values} ({why}); {self.takes}") from error


def says_tuple(parameter: inspect.Parameter) -> bool:
    """Tell whether a parameter is a tuple by its default or annotation."""
    if isinstance(parameter.default, tuple):
        return True
    annotation = "" if parameter.annotation is parameter.empty else str(parameter.annotation).lower()
    return "tuple" in annotation and "list" not in annotation and "sequence" not in annotation


def as_tuple(value: Any) -> Any:
    """Turn lists into tuples, within lists too; return anything else as it is."""
    return tuple(as_tuple(item) for item in value) if isinstance(value, list) else value
