"""One run in its directory: its parts built from a config, its checkpoints, its files and its messages."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Look up a name that version 0.1 had in a module of this name."""
    from pgrun.config.renamed import moved

    return moved(__name__, name)
