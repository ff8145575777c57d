"""Functions that torch's compiler has traced."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import torch

_number = itertools.count()


class Compiled:
    """A function that torch's compiler traces at its first call. No gradient flows through it, though it may take one
    within, by torch.func; it draws no random numbers.

    `seconds` is what the first call took, 0.0 before.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        def traced(*args: Any) -> Any:
            return function(*args)

        # the compiler counts compilations by code object, and makes dynamic what differs between two of one name
        traced.__code__ = traced.__code__.replace(co_name=f"traced_{next(_number)}")
        # else it looks, before each call and two hundred times, whether some module is still that module
        unmoved = torch.compiler.skip_guard_on_globals_unsafe
        self._function = torch.compile(traced, options={"guard_filter_fn": unmoved})
        self.seconds = 0.0

    def __call__(self, *args: Any) -> Any:
        begin = time.perf_counter()
        with torch.no_grad():  # or it would also trace a gradient of the gradient
            result = self._function(*args)
        if not self.seconds:
            self.seconds = time.perf_counter() - begin
        return result
