"""The arguments that several calls from Python take."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pgrun.config.signatures import signature
from pgrun.config.walk import ROOT
from pgrun.errors import UserError
from pgrun.trust.finder import begin

PathLike = str | os.PathLike[str]
Override = str | Mapping[str, Any]  # `key=value`, or values by key


def find_code(config_dir: PathLike | None) -> None:
    """Let modules that a trusted config names be found where the shell's commands find them, for this call."""
    begin([str(Path.cwd()), *([] if config_dir is None else [str(Path(config_dir).resolve().parent)])])


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise UserError unless an argument is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}={value!r} should be a whole number of at least {least}")


def check_names(call: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Raise UserError if a setting's name is no key, but nearly that of one of the call's own arguments."""
    own = [name for name, p in inspect.signature(call).parameters.items() if p.kind is p.KEYWORD_ONLY]
    root = signature(ROOT)
    for name in settings:
        close = difflib.get_close_matches(name, own, 1, 0.8)
        if close and root is not None and name not in root.settings:
            raise UserError(f"pgrun.{call.__name__} has no argument {name}; did you mean {close[0]}=…?")
