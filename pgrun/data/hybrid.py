"""The space of actions of several parts, such as a choice and some numbers, as one vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray


class Hybrid(gym.Space[NDArray[np.float32]]):
    """Vectors of float32 that hold one part of an action after the other; a choice is one number, from 0 on.

    Args:
        parts: the parts' spaces as policies see them: Discrete, MultiDiscrete, MultiBinary, or Box of one axis.
        given: the environment's own space, a Tuple or Dict of them, which messages name.
    """

    def __init__(self, parts: Sequence[gym.Space], given: gym.Space | None = None) -> None:
        self.given = given
        self.parts = tuple(parts)
        self.sizes = tuple(math.prod(part.shape or ()) for part in self.parts)
        super().__init__((sum(self.sizes),), np.float32)

    @property
    def is_np_flattenable(self) -> bool:
        """Return whether it is a vector; see `gymnasium.Space`."""
        return True

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> NDArray[np.float32]:
        """Draw each part; see `gymnasium.Space`."""
        return np.concatenate([np.atleast_1d(part.sample()) for part in self.parts]).astype(np.float32)

    def contains(self, x: Any) -> bool:
        """Return whether a vector has this form; see `gymnasium.Space`."""
        if not isinstance(x, np.ndarray) or x.shape != self.shape:
            return False
        pieces = np.split(x, np.cumsum(self.sizes)[:-1])
        pairs = zip(self.parts, pieces, strict=True)
        return all(part.contains(piece.astype(part.dtype).reshape(part.shape or ())) for part, piece in pairs)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Hybrid) and self.parts == other.parts

    def __repr__(self) -> str:
        return f"Hybrid({', '.join(map(repr, self.parts))})"
