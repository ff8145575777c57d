"""Functions compiled by torch's compiler: recorded ones on the CPU, traced ones on a GPU."""

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
from torch import Tensor

from pgrun.compat.torch import compiler_cache, renamed_code
from pgrun.errors import CantRecord, UserError
from pgrun.optim.program import Program
from pgrun.optim.recording import Recording, Value, mapped, record
from pgrun.optim.surroundings import Surroundings

_number = itertools.count()  # of the functions that are compiled


MOST = 8  # programs of one function


class Recorded:
    """A function on the CPU that is recorded at its first call and compiled; a later run finds the compiled code.

    No gradient flows through it, though it may take one inside. It may write to tensors, and draw random numbers (the
    same as without compiling). Arguments of another form, and numbers that change in what it reads, are recorded
    anew. `seconds` is the time that recording and compiling have taken.

    Args:
        function: of tensors, in tuples, lists and dicts.
        roots: the objects whose attributes it reads, beside its arguments.
        passed: types whose objects hold nothing that it reads.

    Raises:
        CantRecord: what the function does depends on numbers in a tensor, or on ones that keep changing.
        UserError: the compiled code could not be built or loaded.
    """

    def __init__(self, function: Callable[..., Any], roots: Sequence[Any] = (), passed: tuple[type, ...] = ()) -> None:
        self.function, self.roots, self.passed = function, roots, passed
        self.plans: dict[Any, Plan] = {}
        self.surroundings: Surroundings | None = None
        self.texts: set[str] = set()
        self.seconds = 0.0

    def __call__(self, *args: Any) -> Any:
        """Call the compiled function; compile it first if this is the first call of its form."""
        with torch.no_grad():
            leaves: list[Tensor] = []
            form: Any = form_of(args, leaves)
            if len(set(map(id, leaves))) < len(leaves):  # one tensor in two places
                form = form, tuple(same(leaves))
            around, plan = self.around, self.plans.get(form)
            around.changed()
            if plan is None or plan.version != around.version or not plan.holds():
                begin = time.perf_counter()
                plan = self.plans[form] = self.plan(args, leaves, plan)
                self.seconds += time.perf_counter() - begin
            return plan(leaves)

    @property
    def around(self) -> Surroundings:
        """Numbers and tensors that the function may read."""
        if self.surroundings is None:
            self.surroundings = Surroundings(self.roots or (self.function,), self.passed)
        return self.surroundings

    def plan(self, args: tuple[Any, ...], leaves: list[Tensor], before: Plan | None) -> Plan:
        """Record the function; compile what is new."""
        around = self.around
        recording = record(self.function, *args)
        text = recording.text()
        known = before.program if before is not None and before.text == text else None
        if known is None and len(self.texts) == MOST and text not in self.texts:
            raise CantRecord("it reads numbers that keep changing")
        self.texts.add(text)
        if before is not None:
            around.judge(mattered=known is None)
        try:
            return Plan(recording, text, known or Program(recording), leaves, around)
        except Exception as error:
            if type(error).__name__ in FAILURES:
                raise UserError(_broken(error)) from error
            raise


class Plan:
    """How a call of one form is made: which of its arguments go where in the program."""

    def __init__(
        self,
        recording: Recording,
        text: str,
        program: Program,
        leaves: list[Tensor],
        around: Surroundings,
    ) -> None:
        self.text, self.program, self.version = text, program, around.version
        number = {id(x): i for i, x in enumerate(leaves)}
        self.taken = [number.get(id(x), -1) for x in recording.inputs]  # of the arguments; -1 is one that it kept
        self.kept = recording.inputs
        self.places = around.places([x for i, x in zip(self.taken, self.kept, strict=True) if i < 0])
        at = {value: Slot(i) for i, value in enumerate(program.results)}
        at |= {value: Slot(-1 - i) for i, value in enumerate(recording.places)}
        self.result = mapped(at.get, recording.result, Value)

    def holds(self) -> bool:
        """Tell whether the tensors that it keeps are still those of their owners."""
        return all(held.get(key) is x for held, key, x in self.places)

    def __call__(self, leaves: list[Tensor]) -> Any:
        """Run the program on the tensors of a call's arguments; return what the function returns."""
        inputs = [kept if i < 0 else leaves[i] for i, kept in zip(self.taken, self.kept, strict=True)]
        results = self.program(inputs)
        return filled(self.result, [*results, *reversed(inputs)])  # -1 - i is input i, from the end


class Slot(int):
    """The place of a tensor in a list of results, then of inputs from the last to the first."""


def filled(x: Any, found: list[Tensor]) -> Any:
    """Put tensors into the slots of nested tuples, lists and dicts."""
    return mapped(found.__getitem__, x, Slot)


def same(leaves: list[Tensor]) -> list[int]:
    """Return for each tensor the place where it stands first."""
    first: dict[int, int] = {}
    return [first.setdefault(id(x), i) for i, x in enumerate(leaves)]


def form_of(x: Any, leaves: list[Tensor]) -> Any:
    """Return the form of nested arguments, as something to look up by; add their tensors to `leaves`.

    The form is: sizes, strides and types of tensors, the nesting, everything else as it is.
    """
    if isinstance(x, Tensor):
        leaves.append(x)
        return x.shape, x.stride(), x.dtype
    if isinstance(x, tuple | list):
        return tuple([form_of(part, leaves) for part in x])
    if isinstance(x, dict):
        return tuple(x), tuple([form_of(part, leaves) for part in x.values()])
    return x


class Compiled:
    """A function that torch's compiler traces at its first call: for GPUs.

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
