"""Compare values with the types of their settings, and describe these types in words."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Iterable
from typing import Any, Union, get_args, get_origin

from pgrun.config.ranges import Form, OrSchedule, Place, Range
from pgrun.config.schedule_text import parse

LISTS = (list, tuple, typing.Sequence, get_origin(typing.Sequence[int]))
MAPPINGS = (dict, typing.Mapping, get_origin(typing.Mapping[str, int]))
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def alternatives(type_: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type alone."""
    return get_args(type_) if get_origin(type_) in (Union, types.UnionType) else (type_,)


def may_be_null(type_: Any) -> bool:
    """Return whether a setting of this type can be null."""
    return type_ is Any or any(member in (None, type(None), Any) for member in alternatives(type_))


def core(type_: Any) -> Any:
    """Return the type of a setting that is not null."""
    members = [member for member in alternatives(type_) if member not in (None, type(None))]
    return members[0] if members else Any


def without_limits(type_: Any) -> tuple[Any, tuple[Range | Form, ...]]:
    """Split an annotated type into the plain type and its limits."""
    if get_origin(type_) is typing.Annotated:
        plain, *limits = get_args(type_)
        return plain, tuple(limit for limit in limits if isinstance(limit, (Range, Form)))
    return type_, ()


def is_list(type_: Any) -> bool:
    """Return whether a type is a list's."""
    return get_origin(type_) in LISTS or type_ in LISTS


def is_mapping(type_: Any) -> bool:
    """Return whether a type is that of a mapping with keys of any name."""
    return get_origin(type_) in MAPPINGS or type_ in MAPPINGS


def is_plain(type_: Any) -> bool:
    """Return whether a type is a number, a word or a list of them, and not a part with keys of its own."""
    plain, _ = without_limits(type_)
    return plain in WORDS or get_origin(plain) is typing.Literal or is_list(plain)


def items(type_: Any, n: int) -> list[Any]:
    """Return the types of the n items of a list."""
    args = get_args(type_)
    if get_origin(type_) is tuple and args and args[-1] is not Ellipsis:
        return list(args)
    return [args[0] if args else Any] * n


def names_a_file(type_: Any) -> bool:
    """Return whether a setting, or each item of its list, is the name of a file."""
    kind = core(type_)
    if is_list(without_limits(kind)[0]):
        kind = items(kind, 1)[0]
    return get_origin(kind) is typing.Annotated and any(isinstance(mark, Place) for mark in get_args(kind))


def may_be_scheduled(type_: Any) -> bool:
    """Return whether a setting's number may also be a schedule over the run."""
    kind = core(type_)
    return get_origin(kind) is typing.Annotated and any(isinstance(mark, OrSchedule) for mark in get_args(kind))


def problem(value: Any, type_: Any) -> str:
    """Describe how a plain value (no mapping) breaks its setting's type; empty if it doesn't."""
    if value is None:
        return "" if may_be_null(type_) else f"should be {words(type_)}"
    if isinstance(value, str) and may_be_scheduled(type_):
        return problem_of_schedule(value, type_)
    plain, limits = without_limits(core(type_))
    if plain is Any:
        return ""
    if get_origin(plain) is typing.Literal:
        if any(value == choice and isinstance(value, type(choice)) for choice in get_args(plain)):
            return ""
        choices = map(said, get_args(plain))
        return f"is not known; choose one of {', '.join(by_likeness(said(value), choices))}"
    if is_list(plain):
        return problem_of_list(value, plain)
    if plain in WORDS and not fits(value, plain):
        return f"should be {words(type_)}"
    if plain is float and not math.isfinite(value):
        return f"should be {words(type_)}"
    for limit in limits:
        if not limit.holds(value):
            kind = "is out of range: it must be" if isinstance(limit, Range) else "is not known; choose"
            return f"{kind} {limit}{null(type_)}"
    return ""


def problem_of_schedule(text: str, type_: Any) -> str:
    """Describe how the text of a schedule is wrong; empty if nothing is.

    Its last value may lie on an end of the range that is itself excluded, as no step is taken at the run's end.
    """
    if ":" not in text:
        return f"should be {words(type_)}"
    try:
        points = parse(text)
    except ValueError as error:
        return f"is no schedule: {error}"
    _, limits = without_limits(core(type_))
    for i, (share, value) in enumerate(zip(points.shares, points.values, strict=True)):
        at_end = i == len(points.shares) - 1 and share == 1.0
        for limit in limits:
            if isinstance(limit, Range) and not (limit.holds(value) or (at_end and value in (limit.low, limit.high))):
                return f"is {value:g} at {share:g} of the run: it must be {limit}"
    return ""


def problem_of_list(value: Any, plain: Any) -> str:
    """Describe how a list or one of its items is wrong; empty if nothing is."""
    if not isinstance(value, list):
        return f"should be {words(plain)}, as [{said(value)}]"
    kinds = items(plain, len(value))
    if len(kinds) != len(value):
        return f"should be {words(plain)}"
    for item, kind in zip(value, kinds, strict=True):
        if not isinstance(item, dict) and (wrong := problem(item, kind)):
            return f"holds {said(item)}, which {wrong}"
    return ""


def fits(value: Any, plain: Any) -> bool:
    """Return whether a value has a plain type; a whole number is a number, and true is neither."""
    if isinstance(value, bool):
        return plain is bool
    return isinstance(value, (int, float)) if plain is float else isinstance(value, plain)


def words(type_: Any) -> str:
    """Describe a type in words, such as `a whole number of at least 1, or null`."""
    return words_of_core(core(type_)) + null(type_)


def null(type_: Any) -> str:
    """Return `, or null` if the type allows it."""
    return ", or null" if may_be_null(type_) and core(type_) is not Any else ""


def words_of_core(type_: Any) -> str:
    """Describe a type that is no union in words."""
    plain, limits = without_limits(type_)
    if plain is Any:
        return "anything"
    if get_origin(plain) is typing.Literal:
        return "one of " + ", ".join(map(said, get_args(plain)))
    if is_list(plain):
        args = get_args(plain)
        if get_origin(plain) is tuple and args and args[-1] is not Ellipsis:
            return f"a list of {len(args)}, each {words(args[0])}"
        return f"a list, each {words(args[0])}" if args and args[0] is not Any else "a list"
    if is_mapping(plain):
        return "a mapping, as {key: value}"
    name = WORDS.get(plain, "a part with a _target_")
    forms = [str(limit) for limit in limits if isinstance(limit, Form)]
    if forms:
        return f"one of {forms[0]}"
    text = name + "".join(f"{' of' if str(limit).startswith('at ') else ''} {limit}" for limit in limits)
    return f"{text}, or a schedule as linear:FIRST:LAST" if may_be_scheduled(type_) else text


def said(value: Any) -> str:
    """Format a value as in YAML."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def by_likeness(word: Any, choices: Iterable[Any]) -> list[str]:
    """Sort choices by their similarity to a word."""
    return sorted(map(str, choices), key=lambda c: -difflib.SequenceMatcher(None, str(word).lower(), c.lower()).ratio())
