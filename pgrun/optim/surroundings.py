"""Attributes that a recorded function reads: numbers, and where tensors are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

HEAP = 1 << 9  # CPython's flag of classes that aren't built in, whose objects may change their class
PLAIN = {bool, int, float, str, type(None)}
FOREIGN = {"builtins", "torch", "numpy", "gymnasium", "functools", "collections", "logging", "threading", "pathlib"}

Place = tuple[dict[Any, Any], Any]  # a dict, and the key there


class Surroundings:
    """Objects that a function reads: modules, plain objects, lists and dicts, found from some to begin with.

    Args:
        roots: the objects to begin from.
        passed: types whose objects hold nothing that the function reads.
    """

    def __init__(self, roots: Iterable[Any], passed: tuple[type, ...] = ()) -> None:
        self.objects: dict[int, Any] = {}  # those that have attributes, by the id of their dict
        self.numbers: list[Place] = []
        self.tensors: dict[int, Place] = {}  # by their ids
        self.dicts: list[dict[Any, Any]] = []
        self.lists: list[list[Any]] = []
        self.passed = (*passed, type, torch.Generator)
        self.seen: dict[int, Any] = {}  # by their ids, which stay theirs while they are kept
        for root in roots:
            self.look(root)

    def look(self, x: Any) -> None:
        """Note what an object holds, and what that holds."""
        if id(x) in self.seen or isinstance(x, self.passed):
            return
        self.seen[id(x)] = x
        if isinstance(x, dict):
            self.look_at(x)
        elif isinstance(x, list | tuple | set):
            if isinstance(x, list):
                self.lists.append(x)
            for part in x:
                self.look(part)
        elif hasattr(x, "__self__"):  # a method
            self.look(x.__self__)
        elif hasattr(x, "__dict__") and (isinstance(x, nn.Module) or origin(x) not in FOREIGN):
            self.objects[id(vars(x))] = x
            self.look_at(vars(x))

    def look_at(self, held: dict[Any, Any]) -> None:
        """Note a dict's numbers and tensors, and look at the rest."""
        self.dicts.append(held)
        for key, value in list(held.items()):
            if value.__class__ in PLAIN:
                self.numbers.append((held, key))
            elif isinstance(value, Tensor):
                self.tensors.setdefault(id(value), (held, key))
            else:
                self.look(value)

    def kept(self) -> Kept:
        """Keep what the dicts hold now, and how long the lists are."""
        return Kept(self)

    @contextmanager
    def watching(self) -> Iterator[list[Place]]:
        """Note which numbers are read inside the block: a list that is filled at its end."""
        read: set[tuple[int, str]] = set()
        found: list[Place] = []
        kinds = [(x, x.__class__) for x in self.objects.values() if watched(x.__class__) is not None]
        READ.append(read)
        for x, kind in kinds:
            x.__class__ = watched(kind)
        try:
            yield found
        finally:
            for x, kind in kinds:
                x.__class__ = kind
            READ.pop()
        watching = {id(vars(x)) for x, _ in kinds}
        found += [(held, key) for held, key in self.numbers if id(held) not in watching or (id(held), key) in read]

    def places(self, tensors: Sequence[Tensor]) -> list[tuple[dict[Any, Any], Any, Tensor]]:
        """Return where tensors are kept, as far as it was found: the dict, the key there, the tensor."""
        return [(*self.tensors[id(x)], x) for x in tensors if id(x) in self.tensors]


class Kept:
    """The numbers and tensors that dicts held at one moment, and the lengths of lists."""

    def __init__(self, of: Surroundings) -> None:
        self.dicts = [(held, plain(held)) for held in of.dicts]
        self.lists = [(held, len(held)) for held in of.lists]

    def put_back(self) -> list[str]:
        """Put back what was changed since; return its names."""
        changed = []
        for held, before in self.dicts:
            now = plain(held)
            for key in {**before, **now}:
                if key not in now or key not in before or differs(now[key], before[key]):
                    changed.append(str(key))
                    held.pop(key, None)
                    if key in before:
                        held[key] = before[key]
        for grown, length in self.lists:
            if len(grown) > length:
                changed.append("a list")
                del grown[length:]
        return changed


def plain(held: dict[Any, Any]) -> dict[Any, Any]:
    """Return the numbers and tensors among what a dict holds."""
    return {key: x for key, x in held.items() if x.__class__ in PLAIN or isinstance(x, Tensor)}


def differs(x: Any, y: Any) -> bool:
    """Tell whether two numbers differ, or two tensors are not the same."""
    return x is not y and (isinstance(x, Tensor) or isinstance(y, Tensor) or x.__class__ is not y.__class__ or x != y)


READ: list[set[tuple[int, str]]] = []  # what is read of watched objects is added to the last


def origin(x: Any) -> str:
    """Name the package that an object's class is from."""
    return type(x).__module__.partition(".")[0]


@cache
def watched(kind: type) -> type | None:
    """Make a class like this one whose objects note which of their attributes are read; None where none can be made."""

    def note(self: Any, name: str) -> Any:
        READ[-1].add((id(object.__getattribute__(self, "__dict__")), name))
        return kind.__getattribute__(self, name)  # type: ignore[call-arg]

    if not kind.__flags__ & HEAP:
        return None
    own = {"__getattribute__": note, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    try:
        return type(kind.__name__, (kind,), own)
    except TypeError:
        return None


def values(places: Sequence[Place]) -> list[Any]:
    """Return the numbers at these places; the type of what has become something else."""
    found = [held.get(key) for held, key in places]
    return [x if x.__class__ in PLAIN else x.__class__ for x in found]
