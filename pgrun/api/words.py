"""Settings given in Python, as the words that the command line would have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pgrun.config.command_line import OPEN, is_sweep
from pgrun.config.quoting import quoted, unreadable
from pgrun.errors import UserError

KEY = re.compile(r"(\+{0,2}|~)[A-Za-z_][\w./@:-]*")
WHOLE = 1000.0  # floats from here on that are whole stand for counts, as 1e6 does in the shell


def command_line(
    overrides: Sequence[str | Mapping[str, Any]],
    settings: Mapping[str, Any],
    config_dir: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Write a call's arguments as a command line.

    Args:
        overrides: `key=value` each, as in the shell, or dicts of values by key.
        settings: values by key.
        config_dir: a folder of the user's configs.

    Raises:
        UserError: a word is no override, or a value is of no kind that a config can hold.
    """
    words: list[str] = []
    for given in (*overrides, settings):
        if isinstance(given, Mapping):
            words += [word(*each) for each in apart(given)]
            continue
        if not isinstance(given, str):
            raise UserError(f"{given!r} is no override: give texts as 'algo=ppo', and other values by key, as seed=1")
        if given.startswith("-"):
            raise UserError(
                f"{given}: flags are the shell's; from Python there are config_dir=…, quiet=True and the like"
            )
        words.append(given)
    if is_sweep(words):
        raise UserError("a call makes one run: loop over calls, or sweep from the shell by pgrun -m")
    folder = [] if config_dir is None else ["--config-dir", os.fspath(config_dir)]
    return [*folder, *words]


def apart(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield settings by key; a dict of new keys, as env.kwargs, key by key, as only so they can be added."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and f"{key}." in OPEN:
            yield from ((f"{key}.{name(part, key)}", x) for part, x in value.items())
        else:
            yield key, value


def word(key: str, value: Any) -> str:
    """Write a setting as the shell's `key=value`, quoted as Hydra's grammar needs it.

    Raises:
        UserError: the key can't be one, or the value is of no kind that a config can hold.
    """
    if not KEY.fullmatch(key):
        raise UserError(f"{key!r} is no key: write it as in the shell, as in **{{'algo.gamma': 0.9}}")
    text = f"{key}={written(value, key)}"
    try:
        OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise UserError(unreadable(text)) from error
    return text


def written(value: Any, key: str) -> str:
    """Write a value in Hydra's grammar; `key` is for refusals, and for floats that stand for counts."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # NumPy's and torch's numbers
        value = value.item()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        whole = value.is_integer() and WHOLE <= abs(value) < 1e18 and not key.lstrip("+").startswith(OPEN)
        return str(int(value)) if whole else repr(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        return value if plain(value) else quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name(part, key)}: {written(x, f'{key}.{part}')}" for part, x in value.items()) + "}"
    if hasattr(value, "tolist"):  # an array
        value = value.tolist()
    if isinstance(value, (list, tuple, range)):
        return f"[{', '.join(written(x, key) for x in value)}]"
    kind = type(value).__name__
    raise UserError(
        f"{key}: a config holds texts, numbers, True, False, None, and lists and dicts of these, but this is of type "
        f"{kind}; a class is given by its name, as {{'_target_': 'module.Class'}} ('__main__.Class' if a notebook's "
        "cell or the script itself defines it)"
    )


def name(part: Any, key: str) -> str:
    """Return a dict's key as Hydra's grammar has it."""
    if not isinstance(part, str) or not re.fullmatch(r"[\w./@$%-]+", part):
        raise UserError(f"{key}: {part!r} can't be a key in a config; keys are words")
    return part


def plain(text: str) -> bool:
    """Tell whether a text means itself in Hydra's grammar, on its own and as a part of a list."""
    try:
        alone = OverridesParser.create().parse_override(f"x={text}")
        listed = OverridesParser.create().parse_override(f"x=[{text}]")
        return not alone.is_sweep_override() and alone.value() == text and listed.value() == [text]
    except HydraException:
        return False
