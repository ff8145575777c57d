"""Paths: of the configs (in the wheel beside the package, or in the checkout), and of code that Python finds."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def config_dir() -> Path:
    """Return the absolute path of the folder of shipped configs."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "config.yaml").exists():
            return folder
    raise FileNotFoundError(f"no configs beside {package}: is pgrun installed whole?")


def importable(places: Sequence[str]) -> None:
    """Let Python look for modules in these folders too, here and in the processes that this one starts."""
    sys.path.extend(place for place in places if place not in sys.path)
    inherited = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*inherited, *places]))
