"""Command lines that ask Hydra to show something (`--cfg`, `--info`), of a sweep too: then it is its first job's."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from hydra.errors import HydraException

SHOW = ("--cfg", "-c", "--info", "-i")
SWEEP = ("-m", "--multirun", "hydra.mode=MULTIRUN")


def first_job(argv: Sequence[str]) -> list[str]:
    """The command line, flags first, as Hydra wants them. Where it asks to show something, it is without what makes it
    a sweep, and each key is at its first value.
    """
    overrides = [arg for arg in argv if "=" in arg and not arg.startswith("-")]
    flags = [arg for arg in argv if arg not in overrides]
    if not any(arg.split("=", 1)[0] in SHOW for arg in argv):
        return [*flags, *overrides]
    return [arg for arg in flags if arg not in SWEEP] + [_first_value(arg) for arg in overrides if arg not in SWEEP]


def _first_value(argument: str) -> str:
    if argument.startswith("-") or "=" not in argument:
        return argument
    try:
        override = OverridesParser.create().parse_override(argument)
        if not override.is_sweep_override():
            return argument
        if override.value_type is ValueType.INTERVAL_SWEEP:
            return f"{override.get_key_element()}={override.value().start}"  # type: ignore[union-attr]
        return f"{override.get_key_element()}={next(override.sweep_string_iterator(), '')}"
    except HydraException:  # Hydra will say what is wrong with it
        return argument
