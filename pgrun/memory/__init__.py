"""Memories: what an update learns from, the latest rollout, replays or demonstrations. No networks here."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Find what the module of this name had in version 0.1."""
    from pgrun.config.renamed import moved

    return moved(__name__, name)
