"""Values of many kinds as plain ones, which torch.load(weights_only=True) accepts, and back."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np
import torch


class CantCapture(Exception):
    """Raised for a value that has no plain form; the message names it."""


def encode(value: Any, name: str = "value") -> Any:
    """Return a value as one that torch.load(weights_only=True) accepts; `decode` is the inverse.

    Args:
        value: numbers, text, arrays, tensors, random generators, and lists, tuples, deques and dicts of these.
        name: of the value, for the message.

    Raises:
        CantCapture: it, or a part of it, is of another kind.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray) and value.dtype != object and value.dtype.names is None:
        array = np.ascontiguousarray(value)
        return {
            "ndarray": torch.from_numpy(array.copy().reshape(-1).view(np.uint8)),
            "dtype": str(array.dtype),
            "shape": list(value.shape),
        }
    if isinstance(value, np.generic):
        return {"npscalar": encode(np.asarray(value), name)}
    if isinstance(value, np.random.Generator):
        return {"generator": encode(value.bit_generator.state, name)}
    if isinstance(value, np.random.RandomState):
        return {"randomstate": encode(value.get_state(), name)}
    if type(value) is random.Random:
        return {"random": encode(value.getstate(), name)}
    if isinstance(value, torch.Tensor):
        return {"tensor": value.detach().clone()}
    if isinstance(value, torch.Generator) and value.device.type == "cpu":
        return {"torchgenerator": value.get_state()}
    if type(value) is tuple:
        return {"tuple": [encode(v, name) for v in value]}
    if type(value) is list:
        return [encode(v, name) for v in value]
    if type(value) is deque:
        return {"deque": [encode(v, name) for v in value], "maxlen": value.maxlen}
    if type(value) is dict:
        if all(type(k) is str for k in value):
            return {"dict": {k: encode(v, f"{name}.{k}") for k, v in value.items()}}
        return {"items": [[encode(k, name), encode(v, f"{name}[{k!r}]")] for k, v in value.items()]}
    raise CantCapture(f"{name} is a {type(value).__name__}")


def decode(value: Any) -> Any:
    """Return the value that `encode` was given."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "ndarray" in value:
        return value["ndarray"].numpy().copy().view(np.dtype(value["dtype"])).reshape(value["shape"])
    if "npscalar" in value:
        return decode(value["npscalar"])[()]
    if "generator" in value:
        state = decode(value["generator"])
        generator = np.random.Generator(getattr(np.random, state["bit_generator"])())
        generator.bit_generator.state = state
        return generator
    if "randomstate" in value:
        legacy = np.random.RandomState()
        legacy.set_state(decode(value["randomstate"]))
        return legacy
    if "random" in value:
        python = random.Random()
        python.setstate(decode(value["random"]))
        return python
    if "tensor" in value:
        return value["tensor"].clone()
    if "torchgenerator" in value:
        return torch.Generator().set_state(value["torchgenerator"])
    if "tuple" in value:
        return tuple(decode(v) for v in value["tuple"])
    if "deque" in value:
        return deque((decode(v) for v in value["deque"]), maxlen=value["maxlen"])
    if "items" in value:
        return {decode(k): decode(v) for k, v in value["items"]}
    return {k: decode(v) for k, v in value["dict"].items()}
