"""Check that a checkpoint is of the network that is to load it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pgrun.errors import UserError


def check_same_network(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Raise UserError where a checkpoint's tensors are others than those of the network, or have other shapes.

    Args:
        ours: the network's tensors by name.
        theirs: the checkpoint's.
    """
    unshared = [k for k in ours if k not in theirs] + [k for k in theirs if k not in ours]
    shapes = [k for k in ours if k in theirs and ours[k].shape != theirs[k].shape and not k.endswith(".carry")]
    if unshared or shapes:
        key = (unshared + shapes)[0]
        has = tuple(ours[key].shape) if key in ours else "nothing"
        holds = tuple(theirs[key].shape) if key in theirs else "nothing"
        raise UserError(f"the checkpoint is of another network: at {key} it holds {holds}, this network {has}")
