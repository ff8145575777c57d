"""Recordings: the operations on tensors that a function makes while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgrun.compat.torch import DispatchMode, random_operation, written_arguments
from pgrun.errors import CantRecord


class Value(NamedTuple):
    """The place of a tensor in a recording: an input, or an operation's result."""

    number: int


class Operation(NamedTuple):
    """An operation: its arguments hold values in the place of tensors, and so do its results."""

    name: Any  # torch's operator
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: Any


class Draw(NamedTuple):
    """A random draw that a recording takes as an input: made anew by the same operator before each run."""

    name: Any
    args: tuple[Any, ...]  # a `Like` stands for a tensor of which only the form counts
    kwargs: dict[str, Any]


class Like(NamedTuple):
    """The form of a tensor."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, x: Tensor) -> Like:
        """Return a tensor's form."""
        return cls(tuple(x.shape), x.stride(), x.dtype, x.device)

    def repeated(self, n: int) -> Like:
        """Return the form of n such tensors in one, [n, ...]."""
        x = torch.empty((n, *self.size), dtype=self.dtype, device="meta")
        return Like(tuple(x.shape), x.stride(), self.dtype, self.device)

    def empty(self) -> Tensor:
        """Make a tensor of this form, its numbers not set."""
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device=self.device)


@dataclass
class Recording:
    """The operations of one call of a function, in order.

    Attributes:
        inputs: the tensors that it read and didn't make: arguments, parameters, constants.
        places: the values that they are.
        operations: in order.
        draws: the values that are random draws, how to make them, and their forms.
        result: what the function returned, with values in the place of tensors.
        written: the inputs that it writes to.
        forms: of all values.
    """

    inputs: list[Tensor] = field(default_factory=list)
    places: list[Value] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    draws: list[tuple[Value, Draw, Like]] = field(default_factory=list)
    result: Any = None
    written: list[Value] = field(default_factory=list)
    forms: dict[Value, Like] = field(default_factory=dict)

    def text(self) -> str:
        """Write the recording down: equal texts are equal computations."""
        lines = [f"{at.number} = input {Like.of(x)}" for at, x in zip(self.places, self.inputs, strict=True)]
        lines += [f"{at.number} = draw {like}" for at, _, like in self.draws]
        lines += [f"{op.results} = {op.name} {op.args} {op.kwargs}" for op in self.operations]
        return "\n".join([*lines, f"return {self.result}"])


def mapped(function: Callable[[Any], Any], x: Any, kind: type) -> Any:
    """Apply a function to all of a kind in nested tuples, lists and dicts."""
    if isinstance(x, kind):
        return function(x)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(mapped(function, part, kind) for part in x))
    if isinstance(x, tuple | list):
        return type(x)(mapped(function, part, kind) for part in x)
    if isinstance(x, dict):
        return {key: mapped(function, part, kind) for key, part in x.items()}
    return x


def tensors(x: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, tuple | list):
        for part in x:
            yield from tensors(part)
    elif isinstance(x, dict):
        for part in x.values():
            yield from tensors(part)


class Recorder(DispatchMode):
    """Records the operations that are made inside its block; see `record`."""

    def __init__(self) -> None:
        super().__init__()
        self.recording = Recording()
        self.values: dict[int, Value] = {}  # by the tensor's id
        self.made: list[Tensor] = []  # all tensors, so that no id is used twice
        self.saved: list[tuple[Tensor, Tensor]] = []  # inputs that are written to, and copies from before
        self.generators: list[tuple[torch.Generator, Tensor]] = []  # those drawn from, and their states before

    def new(self, x: Tensor) -> Value:
        """Give a tensor a number of its own."""
        value = self.values[id(x)] = Value(len(self.made))
        self.recording.forms[value] = Like.of(x)
        self.made.append(x)
        return value

    def result(self, x: Tensor) -> Value:
        """Return a result's number; an operation that writes to a tensor returns the same one."""
        return self.values[id(x)] if id(x) in self.values else self.new(x)

    def read(self, x: Tensor) -> Value:
        """Return a tensor's number; one that nothing here made is an input."""
        if id(x) not in self.values:
            self.recording.places.append(self.new(x))
            self.recording.inputs.append(x)
        return self.values[id(x)]

    def __torch_dispatch__(
        self, name: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make an operation and write it down."""
        kwargs = kwargs or {}
        if name is torch.ops.aten._local_scalar_dense.default:
            raise CantRecord("it reads a number out of a tensor, to decide by it")
        if name.namespace == "c10d":
            raise CantRecord("it talks with other processes")
        written = written_arguments(name, args, kwargs)
        if random_operation(name):
            return self.draw(name, args, kwargs, written)
        taken = mapped(self.read, args, Tensor), mapped(self.read, kwargs, Tensor)
        for x in written:
            self.save(x)
        result = name(*args, **kwargs)
        self.recording.operations.append(Operation(name, *taken, mapped(self.result, result, Tensor)))
        return result

    def draw(self, name: Any, args: tuple[Any, ...], kwargs: dict[str, Any], written: list[Tensor]) -> Any:
        """Make a random draw, and take its result as an input."""
        read = [x for x in (*tensors(args), *tensors(kwargs)) if all(x is not y for y in written)]
        if read and not name.__name__.partition(".")[0].endswith("_like"):
            raise CantRecord(f"its random draw {name} is from numbers that it computed")
        if any(id(x) not in self.values or self.values[id(x)] in self.recording.places for x in written):
            raise CantRecord(f"its random draw {name} goes into what it was given")
        generator = kwargs.get("generator") or torch.default_generator
        if all(generator is not known for known, _ in self.generators):
            self.generators.append((generator, generator.get_state()))
        draw = Draw(name, mapped(Like.of, args, Tensor), mapped(Like.of, kwargs, Tensor))
        result = name(*args, **kwargs)
        self.recording.draws.append((self.new(result), draw, Like.of(result)))
        return result

    def save(self, x: Tensor) -> None:
        """Keep a copy of what is about to be written to, if that is an input or lies in one's memory."""
        first, end = extent(x)
        hit = [i for i in self.recording.inputs if overlaps(extent(i), (first, end))]
        if len(hit) > 1:
            raise CantRecord("it writes to memory that two of the tensors which it reads have in common")
        if hit and all(extent(known) != (first, end) for known, _ in self.saved):
            self.saved.append((x, x.clone()))
            if (value := self.values[id(hit[0])]) not in self.recording.written:
                self.recording.written.append(value)

    def undo(self) -> None:
        """Put back what was written to, and the generators."""
        for x, before in reversed(self.saved):
            x.copy_(before)
        for generator, before in self.generators:
            generator.set_state(before)


def extent(x: Tensor) -> tuple[int, int]:
    """Return the addresses between which a tensor lies."""
    span = 1 + sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    return x.data_ptr(), x.data_ptr() + span * x.element_size()


def overlaps(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Tell whether two ranges of addresses have any in common."""
    return one[0] < other[1] and other[0] < one[1]


def record(function: Callable[..., Any], *args: Any) -> Recording:
    """Run a function and record its operations; what it wrote to is as before afterwards.

    Args:
        function: of tensors, among others. It may draw random numbers by operators that don't look at what was
            computed: each run of the recording draws anew.
        *args: its arguments.

    Raises:
        CantRecord: what it does depends on the numbers in a tensor.
    """
    recorder = Recorder()
    with torch.no_grad():
        try:
            with recorder:
                result = function(*args)
            recorder.recording.result = mapped(recorder.read, result, Tensor)
        finally:
            recorder.undo()
    return recorder.recording
