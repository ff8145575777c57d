"""Steps along gradients: optimizers of one flat vector, clipping, compiled steps. No algorithms here."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Find a name that the module of this name had in version 0.1."""
    from pgrun.config.renamed import moved

    return moved(__name__, name)
