"""The path of the shipped configs: in the wheel beside the package, or in the checkout."""

from __future__ import annotations

from pathlib import Path


def config_dir() -> Path:
    """Return the absolute path of the folder of shipped configs."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "config.yaml").exists():
            return folder
    raise FileNotFoundError(f"no configs beside {package}: is pgrun installed whole?")
