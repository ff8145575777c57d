"""Where the configs lie: in the wheel beside the package, or in the checkout."""

from __future__ import annotations

from pathlib import Path


def config_dir() -> Path:
    """The folder of shipped configs, absolute."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "config.yaml").exists():
            return folder
    raise FileNotFoundError(f"no configs beside {package}: is pgrun installed whole?")
