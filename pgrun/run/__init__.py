"""One run in its directory: its parts built from a config, its checkpoints, files and words. No sweeps here."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Find what the module of this name had in version 0.1."""
    from pgrun.config.renamed import moved

    return moved(__name__, name)
