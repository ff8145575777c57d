"""Command lines that make Hydra show something (`--cfg`, `--info`); of a sweep, they show its first job."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from hydra.errors import HydraException

from pgrun.errors import UserError

SHOW = ("--cfg", "-c", "--info", "-i", "--hydra-help")
SWEEP = ("-m", "--multirun", "hydra.mode=MULTIRUN")


def first_job(argv: Sequence[str]) -> list[str]:
    """Put a command line's flags first, as Hydra needs them.

    If it asks to show something, it also becomes that of a single job: without the words that make it a sweep, and with
    each key at its first value.

    Raises:
        UserError: it asks for two things at once.
    """
    overrides = [arg for arg in argv if "=" in arg and not arg.startswith("-")]
    flags = [arg for arg in argv if arg not in overrides]
    asked = [flag for flag in flags if flag.split("=", 1)[0] in (*SHOW, "-r", "--run", *SWEEP[:2])]
    shows = [flag for flag in asked if flag.split("=", 1)[0] in SHOW]
    if len(set(asked) - set(SWEEP if shows else ())) > 1:
        raise UserError(f"{' and '.join(asked)} can't be had at once: give one of them")
    if not shows:
        return [*flags, *overrides]
    return [arg for arg in flags if arg not in SWEEP] + [_first_value(arg) for arg in overrides if arg not in SWEEP]


def _first_value(argument: str) -> str:
    """Return an override with the first of its values."""
    if argument.startswith("-") or "=" not in argument:
        return argument
    try:
        override = OverridesParser.create().parse_override(argument)
        if not override.is_sweep_override():
            return argument
        if override.value_type is ValueType.INTERVAL_SWEEP:
            return f"{override.get_key_element()}={override.value().start}"  # type: ignore[union-attr]
        return f"{override.get_key_element()}={next(override.sweep_string_iterator(), '')}"
    except HydraException:  # Hydra reports it later
        return argument
