"""The files that a run ends with: result.json, and the log."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from pgrun.atomic import replace
from pgrun.errors import EnvFailed


def note_traceback(folder: Path, error: EnvFailed) -> None:
    """Append the traceback of an environment's failure to pgrun.log, where that can be written."""
    with suppress(OSError), open(folder / "pgrun.log", "a", encoding="utf-8") as file:
        file.write(f"{error}\n{error.trace}")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file in one piece; NaN and infinities become null."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}
    replace(path, (json.dumps(clean, indent=2) + "\n").encode())
