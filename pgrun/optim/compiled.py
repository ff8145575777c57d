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
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from pgrun.compat.torch import compiler_cache, renamed_code
from pgrun.errors import CantRecord, UserError
from pgrun.optim.program import Program, libraries
from pgrun.optim.recording import Recording, Value, mapped, record, tensors
from pgrun.optim.surroundings import Place, Surroundings, values

_number = itertools.count()  # of the functions that are compiled


MOST = 8  # programs of one function
FORMS = 3  # forms of one function's arguments


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
        CantRecord: what the function does depends on numbers in a tensor, or on numbers or sizes that keep changing.
        UserError: the compiled code could not be built or loaded.
    """

    def __init__(self, function: Callable[..., Any], roots: Sequence[Any] = (), passed: tuple[type, ...] = ()) -> None:
        self.function, self.roots, self.passed = function, roots, passed
        self.plans: dict[Any, Plan] = {}
        self.programs: dict[str, Program] = {}  # by their recordings' texts
        self.seconds = 0.0

    def __call__(self, *args: Any) -> Any:
        """Call the compiled function; compile it first if this is the first call of its form."""
        with torch.no_grad():
            leaves: list[Tensor] = []
            form: Any = form_of(args, leaves)
            if len(set(map(id, leaves))) < len(leaves):  # one tensor in two places
                form = form, tuple(same(leaves))
            plan = self.plans.get(form)
            if plan is None and len(self.plans) == FORMS:
                raise CantRecord("the sizes of what it is given keep changing")
            if plan is None or not plan.holds():
                begin = time.perf_counter()
                plan = self.plans[form] = self.plan(args, leaves)
                self.seconds += time.perf_counter() - begin
            return plan(leaves)

    def plan(self, args: tuple[Any, ...], leaves: list[Tensor]) -> Plan:
        """Record the function; compile what is new."""
        around, recording, read = self.record(*args)
        return Plan(recording, self.program(recording), leaves, around, read)

    def record(self, *args: Any) -> tuple[Surroundings, Recording, list[Place]]:
        """Record a call of the function; return what lies around it, the recording, and the numbers that it read."""
        around = Surroundings(self.roots or (self.function,), self.passed)
        with around.watching() as read:
            recording = record(self.function, *args)
        return around, recording, read

    def program(self, recording: Recording, rows: Sequence[Value] = (), n: int = 0) -> Program:
        """Return the program of a recording, or of n calls of it; compile it if it is a new one."""
        key = f"{n} {rows} {recording.text()}"
        if key not in self.programs:
            if len(self.programs) == MOST:
                raise CantRecord("it reads numbers that keep changing")
            try:
                self.programs[key] = Program(recording, rows, n)
            except Exception as error:
                if type(error).__name__ in FAILURES:
                    raise UserError(_broken(error)) from error
                raise
        return self.programs[key]


class RecordedLoop(Recorded):
    """A function on the CPU that is called n times in a row, as one compiled program.

    Its first argument is a tuple of tensors [n, ...] (or of tuples of them): each call gets another row. The others
    stay the same. It returns what the calls return, each [n, ...].
    """

    def plan(self, args: tuple[Any, ...], leaves: list[Tensor]) -> Plan:
        """Record one call; compile what is new."""
        stacked, first = list(tensors(args[0])), mapped(lambda x: x[0], args[0], Tensor)
        around, recording, read = self.record(first, *args[1:])
        row_of = {id(x): i for i, x in enumerate(tensors(first))}
        rows = [value for value, x in zip(recording.places, recording.inputs, strict=True) if id(x) in row_of]
        program = self.program(recording, rows, len(stacked[0]))
        for i, x in enumerate(recording.inputs):
            if id(x) in row_of:
                recording.inputs[i] = stacked[row_of[id(x)]]
        return Plan(recording, program, leaves, around, read)


class Plan:
    """How a call of one form is made: which of its arguments go where in the program.

    Args:
        recording: of a call.
        program: its operations, compiled.
        leaves: the tensors among the call's arguments.
        around: where the tensors are kept that are no arguments.
        numbers: the numbers that the function read.
    """

    def __init__(
        self,
        recording: Recording,
        program: Program,
        leaves: list[Tensor],
        around: Surroundings,
        numbers: list[Place],
    ) -> None:
        self.program, self.numbers, self.values = program, numbers, values(numbers)
        number = {id(x): i for i, x in enumerate(leaves)}
        self.inputs = list(recording.inputs)  # the program's, those of the call in their places
        self.taken = [(i, number[id(x)]) for i, x in enumerate(recording.inputs) if id(x) in number]
        self.places = around.places([x for x in recording.inputs if id(x) not in number])
        places = {value: i for i, value in enumerate((*program.results, *recording.places))}
        self.result = maker(mapped(lambda value: Slot(places[value]), recording.result, Value))

    def holds(self) -> bool:
        """Tell whether the numbers that it read are the same, and the tensors that it keeps still their owners'."""
        if values(self.numbers) != self.values:
            return False
        return all(held.get(key) is x for held, key, x in self.places)

    def __call__(self, leaves: list[Tensor]) -> Any:
        """Run the program on the tensors of a call's arguments; return what the function returns."""
        inputs = self.inputs
        for i, place in self.taken:
            inputs[i] = leaves[place]
        return self.result([*self.program(inputs), *inputs])


class Slot(int):
    """The place of a tensor among a program's results and inputs."""


def maker(x: Any) -> Callable[[list[Tensor]], Any]:
    """Return a function that makes nested tuples, lists and dicts like these, with tensors in the slots."""
    if isinstance(x, Slot):
        return itemgetter(int(x))
    if isinstance(x, dict):
        keys, parts = tuple(x), [maker(part) for part in x.values()]
        return lambda found: dict(zip(keys, [part(found) for part in parts], strict=True))
    if isinstance(x, tuple | list):
        kind, parts = type(x), [maker(part) for part in x]
        if hasattr(x, "_fields"):
            return lambda found: kind(*[part(found) for part in parts])
        return lambda found: kind([part(found) for part in parts])
    return lambda found: x


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
    """Raise UserError where the C++ compiler that torch's compiler needs is missing, or compiled code can't be kept."""
    libraries()
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
