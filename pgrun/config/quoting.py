"""Overrides that Hydra can't read, and the quotes that make them readable."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException

RIGHT = {"range": "range(3)", "interval": "interval(0.1,1)"}  # how sweeps over numbers are written
WRITE = "write key=value, quoted where the shell would take it apart"


def explained(error: BaseException, argv: Sequence[str]) -> str:
    """Say in one line what to write instead of an override that can't be read; empty for other errors.

    Args:
        error: Hydra's.
        argv: the command line.
    """
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, argv)
    if match := re.match(r"Ambiguous value for argument '(.*)'\n", str(error)):
        key, _, value = match[1].partition("=")
        ways = {"a list": f"{key}=[{value}]", "a text": in_quotes(key, value), "a sweep": f"-m {match[1]}"}
        said = [f"for {what} {as_typed(way)}" for what, way in ways.items() if way]
        return f"{match[1]} may be a list, a text or a sweep: write {', '.join(said)}"
    return ""


def unreadable(override: str, argv: Sequence[str] = ()) -> str:
    """Say in one line what to write instead of an override that can't be read.

    Args:
        override: as it came from the shell.
        argv: the command line; a word without = may belong to the one before it.
    """
    override = override[2:] if override.startswith("++eval.env.") else override  # pgrun itself added the ++
    key, equals, value = override.partition("=")
    if not equals:
        before = argv[argv.index(override) - 1] if override in argv and argv.index(override) else ""
        whole = f"{before} {override}"
        if "=" in before and before[:1] != "-" and (way := in_quotes(*whole.split("=", 1))):
            return f"can't read {override!r}: {WRITE}; if it belongs to {before}, as {as_typed(way)}"
        return f"can't read {override!r}: {WRITE}"
    if value[:1] in ("[", "{") and len(value) > 1:
        return f"can't read {override!r}: write key=value; in a list or a dict, quote what holds = # ( ~ as '[\"a=b\"]'"
    if match := re.fullmatch(r"(range|interval)\(.*\)", value):
        right = RIGHT[match[1]]
        return f"can't read {override!r}: {match[1]} takes numbers, as {as_typed(f'{key}={right}')}"
    way = in_quotes(key, value)
    if not way:
        return f"can't read {override!r}: {WRITE}"
    parts = value.split(",")
    several = f"{key}={','.join(quoted(part) for part in parts)}"
    more = f", or to sweep over {len(parts)} values {as_typed(several)}" if len(parts) > 1 and reads(several) else ""
    why = "with quotes round a value that holds = # ( [ ~ or the like"
    return f"can't read {override!r}: write key=value, {why}: {as_typed(way)}{more}"


def in_quotes(key: str, value: str) -> str:
    """Return an override whose value is quoted as text; empty if even the key can't be read."""
    text = f"{key}={quoted(value)}"
    return text if reads(text) else ""


def quoted(value: str) -> str:
    """Quote a value as text in Hydra's grammar."""
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f'"{escaped}{chr(92) * trailing}"'


def reads(override: str) -> bool:
    """Return whether Hydra can read an override."""
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def as_typed(text: str) -> str:
    """Return an override as it is typed into a shell."""
    return " ".join(shlex.quote(word) for word in (["-m", text[3:]] if text.startswith("-m ") else [text]))
