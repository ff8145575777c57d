"""Actions of several parts, in a Tuple or Dict of the environment's, as the one vector that policies have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from torch import Tensor

from pgrun.data.hybrid import Hybrid
from pgrun.errors import UserError

Codec = Callable[[gym.Space], tuple[gym.Space, Callable[[Tensor], Any]]]


def hybrid_codec(
    space: gym.spaces.Tuple | gym.spaces.Dict, codec: Codec
) -> tuple[gym.Space, Callable[[Tensor], tuple[Any, ...] | dict[str, Any]]]:
    """Return the space that policies see, and a function from their actions [B, A] to the environment's.

    Args:
        space: the environment's; parts in parts are parts of the one vector, too.
        codec: the same for one part.

    Raises:
        UserError: there is no part, or one can't be taken.
    """
    given = list(space.items()) if isinstance(space, gym.spaces.Dict) else list(enumerate(space.spaces))
    if not given:
        raise UserError(f"actions in {space} can't be taken: there has to be something to do")
    parts: list[gym.Space] = []
    takers: list[tuple[Any, slice | int, bool, Callable[[Tensor], Any]]] = []
    first = 0
    for key, part in given:
        seen, take = codec(part)
        inner = seen.parts if isinstance(seen, Hybrid) else (seen,)
        whole = isinstance(seen, gym.spaces.Discrete | gym.spaces.MultiDiscrete)
        size = seen.shape[0] if seen.shape else 1
        takers.append((key, slice(first, first + size) if seen.shape else first, whole, take))
        parts += inner
        first += size

    def split(action: Tensor) -> tuple[Any, ...] | dict[str, Any]:
        pieces = {key: action[..., at].long() if whole else action[..., at] for key, at, whole, _ in takers}
        taken = {key: take(pieces[key]) for key, _, _, take in takers}
        return taken if isinstance(space, gym.spaces.Dict) else tuple(taken.values())

    return Hybrid(parts, given=space), split
