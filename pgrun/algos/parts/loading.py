"""Load a part of another run's tensors into a network."""

from __future__ import annotations

from torch import Tensor, nn

from pgrun.algos.parts.base import Algorithm
from pgrun.errors import UserError


def put(module: nn.Module, tensors: dict[str, Tensor], prefix: str, run: str) -> None:
    """Load a run's tensors under a prefix into a module; UserError where their shapes differ."""
    theirs = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    shapes = [{key: value.shape for key, value in x.items()} for x in (module.state_dict(), theirs)]
    if wrong := [key for key in {**shapes[0], **shapes[1]} if shapes[0].get(key) != shapes[1].get(key)]:
        raise UserError(f"algo.compose: {run} holds another network than this one: see {prefix}{wrong[0]}")
    module.load_state_dict(theirs)


def take(actor: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Load an actor from another run's tensors; UserError if that run's policy has another shape."""
    policy = {
        key.partition("actor.")[2]: value for key, value in tensors.items() if key.startswith(Algorithm.policy_names)
    }
    current = actor.state_dict()
    wrong = [k for k in current if k not in policy or policy[k].shape != current[k].shape]
    if wrong := wrong + [k for k in policy if k not in current]:
        raise UserError(f"{name} holds another policy than this network's: see {wrong[0]}")
    actor.load_state_dict({key: policy[key] for key in current})
