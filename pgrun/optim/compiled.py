"""Functions that torch's compiler has traced."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from pgrun.errors import UserError

_number = itertools.count()


class Compiled:
    """A function that torch's compiler traces at its first call. No gradient flows through it, though it may take one
    within, by torch.func; it draws no random numbers.

    `seconds` is what the first call took, 0.0 before; the compiler is imported then, too.

    Raises:
        UserError: what the compiler made could not be built or loaded.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        def traced(*args: Any) -> Any:
            return function(*args)

        # the compiler counts compilations by code object, and makes dynamic what differs between two of one name
        traced.__code__ = traced.__code__.replace(co_name=f"traced_{next(_number)}")
        # the guards have seen to the sizes
        options: dict[str, Any] = {"guard_filter_fn": which_may_change, "size_asserts": False}
        self._compile = partial(torch.compile, traced, options=options)
        self._function: Callable[..., Any] | None = None
        self.seconds = 0.0

    def __call__(self, *args: Any) -> Any:
        with torch.no_grad():  # or it would also trace a gradient of the gradient
            if self._function is not None:
                return self._call(*args)
            begin = time.perf_counter()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"torch\._inductor")  # advice on what the config decides
                self._function = self._compile()
                result = self._call(*args)
            self.seconds = time.perf_counter() - begin
            return result

    def _call(self, *args: Any) -> Any:
        assert self._function is not None
        try:
            return self._function(*args)
        except Exception as error:
            if type(error).__name__ in FAILURES:
                raise UserError(_broken(error)) from error
            raise


def check_compiler() -> None:
    """Raise UserError where the C++ compiler that torch's compiler would call is not there."""
    name = os.environ.get("CXX", {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++"))
    if shutil.which(name) is None:
        more = "install it, name another program in the variable CXX, or drop compile"
        raise UserError(f"compile=true needs the C++ compiler {name!r}: {more}")


FAILURES = ("InductorError", "BackendCompilerFailed", "TritonMissing", "GPUTooOldForTriton")  # of private modules


def _broken(error: Exception) -> str:
    from pgrun.compat.torch import compiler_cache

    inner = getattr(error, "inner_exception", error)
    said = [line.strip() for line in str(inner).splitlines() if line.strip()] or [type(inner).__name__]
    reason = next((line for line in said if "error:" in line), said[0])
    return (
        f"compile=true: torch's compiler failed ({reason}); if a run was killed while it compiled, "
        f"remove {compiler_cache()}, else drop compile"
    )


def which_may_change(guards: Sequence[Any]) -> list[bool]:
    """Which of what the compiler took for granted it is to look at before each call: the arguments, tensors that are
    no parameters, numbers that the function reads, and the process's own state. Else it looks, up to two hundred times,
    whether some module is still that module, a tenth of a small update; nothing of them changes during a run.
    """
    return [
        not guard.is_global
        and (
            guard.name.startswith("args")  # of `traced`
            or not guard.name  # whether gradients are on, dynamic shapes, …
            or isinstance(guard.value, bool | int | float)
            or (isinstance(guard.value, torch.Tensor) and not isinstance(guard.value, torch.nn.Parameter))
        )
        for guard in guards
    ]
