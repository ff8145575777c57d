"""Batches to show to networks."""

from typing import Any

import torch
from torch import Tensor

from pgrun.data.types import Transition


def seen(obs: Tensor, valid: Tensor | None = None, **fields: Any) -> Transition:
    """A Transition of which only what is given matters."""
    shape = obs.shape[:-1]
    no, yes = torch.zeros(shape, dtype=torch.bool), torch.ones(shape, dtype=torch.bool)
    blank: dict[str, Any] = {
        "action": torch.zeros(shape),
        "reward": torch.zeros(shape),
        "discount": torch.ones(shape),
        "last": no,
    }
    valid = yes if valid is None else valid
    return Transition(**{"obs": obs, "next_obs": obs, **blank, "valid": valid, "extras": {}, **fields})
