"""Functions compiled by torch's compiler."""

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

from pgrun.compat.torch import compiler_cache, renamed_code
from pgrun.errors import UserError

_number = itertools.count()  # of the functions that are compiled


class Compiled:
    """A function that torch's compiler traces at its first call.

    No gradient flows through it, though it may take one inside, by torch.func. It draws no random numbers. The compiler
    is imported at the first call. `seconds` is the time of that call, 0.0 before.

    Raises:
        UserError: the compiled code could not be built or loaded.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        def traced(*args: Any) -> Any:
            return function(*args)

        unique = renamed_code(traced, f"traced_{next(_number)}")  # else all losses would be one code to the compiler
        # the guards check the sizes already
        options: dict[str, Any] = {"guard_filter_fn": which_may_change, "size_asserts": False}
        self._compile = partial(torch.compile, unique, options=options)
        self._function: Callable[..., Any] | None = None
        self.seconds = 0.0

    def __call__(self, *args: Any) -> Any:
        """Call the compiled function; compile it first if this is the first call."""
        with torch.no_grad():  # else it would also trace a gradient of the gradient
            if self._function is not None:
                return self._call(*args)
            begin = time.perf_counter()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"torch\._inductor")  # advice on settings of the config
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
    """Raise UserError where the C++ compiler that torch's compiler needs is missing."""
    name = os.environ.get("CXX", {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++"))
    if shutil.which(name) is None:
        more = "install it, name another program in the variable CXX, or drop compile"
        raise UserError(f"compile=true needs the C++ compiler {name!r}: {more}")


FAILURES = ("InductorError", "BackendCompilerFailed", "TritonMissing", "GPUTooOldForTriton")  # of private modules


def _broken(error: Exception) -> str:
    inner = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()] or [type(inner).__name__]
    reason = next((line for line in lines if "error:" in line), lines[0])
    return (
        f"compile=true: torch's compiler failed ({reason}); if a run was killed while it compiled, "
        f"remove {compiler_cache()}, else drop compile"
    )


def which_may_change(guards: Sequence[Any]) -> list[bool]:
    """Select the guards that torch.compile checks before each call.

    They are those on arguments, on tensors that are no parameters, on numbers that the function reads and on the
    process's own state. Guards on modules and parameters are dropped: there are up to two hundred, which take a tenth
    of a small update, and they never change during a run.
    """
    return [
        not guard.is_global
        and (
            guard.name.startswith("args")  # the arguments of `traced`
            or not guard.name  # whether gradients are on, dynamic shapes, …
            or isinstance(guard.value, bool | int | float)
            or (isinstance(guard.value, torch.Tensor) and not isinstance(guard.value, torch.nn.Parameter))
        )
        for guard in guards
    ]
