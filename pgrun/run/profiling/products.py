"""The matrix products of an iteration of the loop, and the time that they take alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgrun.compat.torch import DispatchMode, flops_of
from pgrun.run.profiling.stopwatch import Path

PATIENCE = 0.02  # seconds that each distinct product is timed for
BATCHES = 5  # of which the fastest counts


@dataclass
class Product:
    """A matrix product or convolution of one shape, and how often it was computed."""

    again: Callable[[], Any]  # computes it once more
    flops: int  # multiplications and additions
    count: int = 0


class Products(DispatchMode):
    """Keeps the matrix products and convolutions that are computed in its block.

    Args:
        where: returns the parts that are open, to which a product is counted.
    """

    def __init__(self, where: Callable[[], Path]) -> None:
        super().__init__()
        self.where = where
        self.found: dict[Path, dict[Any, Product]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operation, and keep it if it is a product."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if (flops := flops_of(func, args, kwargs, result)) is not None:
            products = self.found.setdefault(self.where(), {})
            key = func, described(args), described(tuple(kwargs.values()))
            if key not in products:
                mine, named = kept(args), {name: kept(x) for name, x in kwargs.items()}
                products[key] = Product(lambda: func(*mine, **named), flops)
            products[key].count += 1
        return result


@dataclass(frozen=True)
class Cost:
    """The cost of products."""

    seconds: float
    flops: int
    count: int

    @property
    def gflops_per_second(self) -> float:
        """Billions of multiplications and additions a second."""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0


def cost(products: dict[Any, Product], device: torch.device) -> Cost:
    """Time products alone, each with arguments of the same shapes and in warm caches."""
    seconds = 0.0
    with torch.no_grad():
        for product in products.values():
            seconds += product.count * fastest(product.again, device)
    each = products.values()
    return Cost(seconds, sum(p.count * p.flops for p in each), sum(p.count for p in each))


def fastest(function: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of one call: the mean of the fastest of a few batches of calls."""
    for _ in range(3):
        function()
    once = max(batch(function, 1, device), 1e-7)
    number = max(int(PATIENCE / BATCHES / once), 1)
    return min(batch(function, number, device) for _ in range(BATCHES)) / number


def batch(function: Callable[[], Any], number: int, device: torch.device) -> float:
    """Return the seconds of so many calls."""
    finish(device)
    begin = time.perf_counter()
    for _ in range(number):
        function()
    finish(device)
    return time.perf_counter() - begin


def finish(device: torch.device) -> None:
    """Wait until a GPU has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def described(value: Any) -> Any:
    """Describe an argument by what decides a product's time."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    return tuple(map(described, value)) if isinstance(value, (list, tuple)) else repr(value)


def kept(value: Any) -> Any:
    """Copy an argument, for the same product later; a tensor keeps its shape and strides."""
    if isinstance(value, Tensor):
        one = value[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.stride())]  # not repeated
        copy = torch.empty_strided(one.shape, one.stride(), dtype=value.dtype, device=value.device).copy_(one)
        return copy.expand(value.shape)
    return type(value)(map(kept, value)) if isinstance(value, (list, tuple)) else value
