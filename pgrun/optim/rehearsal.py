"""Rehearsals: a function is run once to see what a graph of its operations must know, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.compat.torch import (
    DispatchMode,
    StorageRef,
    memory_of,
    of_numbers,
    random_operation,
    written_arguments,
)
from pgrun.errors import CantRecord
from pgrun.optim.recording import tensors


class Rehearsal(DispatchMode):
    """Watches the operations inside its block: what they read from outside, write to and draw from.

    Unlike a `Recorder` it lets a function write to memory that several tensors share and draw from what it computed:
    a graph's operations use the same addresses and generators each time. It keeps no result alive.

    Args:
        device: where all operations must be.

    Raises:
        CantRecord: within the block, by an operation that no graph can hold.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.made: dict[int, StorageRef] = {}  # memory that the function allocates, by its number
        self.inputs: dict[int, Tensor] = {}  # tensors in other memory, by their ids
        self.outside: set[int] = set()  # the numbers of that memory
        self.saved: list[tuple[Tensor, Tensor]] = []  # what is written to in it, and copies from before
        self.generators: list[tuple[torch.Generator, Tensor]] = []  # those drawn from, and their states before

    def __torch_dispatch__(
        self, name: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make an operation, once it is known that a graph can hold it."""
        kwargs = kwargs or {}
        if of_numbers(name, args):
            raise CantRecord("it reads a number out of a tensor, to decide by it")
        if name.namespace == "c10d":
            raise CantRecord("it talks with other processes")
        taken, draws = [*tensors(args), *tensors(kwargs)], random_operation(name)
        for x in taken:
            if name is torch.ops.aten.lift_fresh.default:  # a constant that was just written in Python
                self.make(x)
            self.note(x)
        if draws:
            self.keep(kwargs.get("generator") or default_generator(self.device))
        for x in written_arguments(name, args, kwargs):
            self.save(x)
        result = name(*args, **kwargs)
        for x in tensors(result):
            self.make(x)
        self.check_devices(taken, [*tensors(result)], draws)
        return result

    def make(self, x: Tensor) -> None:
        """Note memory that the function has allocated; a result may also lie in older memory."""
        if memory_of(x) not in self.outside and memory_of(x) not in self.made:
            self.made[memory_of(x)] = StorageRef(x.untyped_storage())  # keeps the number, not the memory

    def note(self, x: Tensor) -> None:
        """Note a tensor that the function reads, if nothing here made it."""
        if memory_of(x) not in self.made:
            self.inputs[id(x)] = x
            self.outside.add(memory_of(x))

    def check_devices(self, taken: list[Tensor], results: list[Tensor], draws: bool) -> None:
        """Raise CantRecord for an operation elsewhere, unless it makes a single number that is a constant."""
        there = [x.device == self.device for x in taken]
        wrong = [x for x, here in zip(taken, there, strict=True) if not here and (x.dim() or id(x) in self.inputs)]
        moved = any(there) or draws
        wrong += [x for x in results if x.device != self.device and (x.dim() or moved)]
        if wrong:
            raise CantRecord(f"it computes on {wrong[0].device.type}, too, not on {self.device.type} alone")

    def keep(self, generator: torch.Generator) -> None:
        """Keep a generator's state before the first draw from it."""
        if all(generator is not known for known, _ in self.generators):
            if generator.device != self.device:
                raise CantRecord(f"it draws random numbers on {generator.device}")
            self.generators.append((generator, generator.get_state()))

    def save(self, x: Tensor) -> None:
        """Keep a copy of what is about to be written to, unless the function allocated it."""
        if memory_of(x) in self.made or any(place(known) == place(x) for known, _ in self.saved):
            return
        self.saved.append((x, x.detach().clone()))

    @torch.no_grad()
    def undo(self) -> None:
        """Put back what was written to, and the generators."""
        for x, before in reversed(self.saved):
            x.detach().copy_(before)
        for generator, before in self.generators:
            generator.set_state(before)

    def writes_to(self, x: Tensor) -> bool:
        """Tell whether the function writes to a tensor's memory."""
        return any(memory_of(known) == memory_of(x) for known, _ in self.saved)


def place(x: Tensor) -> tuple[Any, ...]:
    """Return where a tensor lies: equal for tensors that are the same numbers of the same memory."""
    return x.data_ptr(), tuple(x.shape), x.stride(), x.dtype


def default_generator(device: torch.device) -> torch.Generator:
    """Return a device's global generator."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator
