"""Loading a part of another run's tensors into a network."""

from __future__ import annotations

from torch import Tensor, nn

from pgrun.errors import UserError


def put(module: nn.Module, tensors: dict[str, Tensor], prefix: str, run: str) -> None:
    """Load a run's tensors under a prefix into a module; UserError where their shapes differ."""
    theirs = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    shapes = [{key: value.shape for key, value in x.items()} for x in (module.state_dict(), theirs)]
    if wrong := [key for key in {**shapes[0], **shapes[1]} if shapes[0].get(key) != shapes[1].get(key)]:
        raise UserError(f"algo.compose: {run} holds another network than this one: see {prefix}{wrong[0]}")
    module.load_state_dict(theirs)
