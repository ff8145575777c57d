"""What networks are shown."""

import torch

from pgrun.data.types import Transition


def seen(obs, valid=None, **fields):
    """A Transition of which only what is given matters."""
    shape = obs.shape[:-1]
    no, yes = torch.zeros(shape, dtype=torch.bool), torch.ones(shape, dtype=torch.bool)
    blank = {"action": torch.zeros(shape), "reward": torch.zeros(shape), "discount": torch.ones(shape), "last": no}
    valid = yes if valid is None else valid
    return Transition(**{"obs": obs, "next_obs": obs, **blank, "valid": valid, "extras": {}, **fields})
