"""The arguments that several calls from Python take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
