"""Attributes that a recorded function may read: numbers, and where tensors are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

PLAIN = {bool, int, float, str, type(None)}
FOREIGN = {"builtins", "torch", "numpy", "gymnasium", "functools", "collections", "logging", "threading", "pathlib"}
PATIENCE = 3  # changes of a number without effect, after which it is taken for one that isn't read


class Surroundings:
    """Numbers and tensors that are found from some objects: in modules, plain objects, lists and dicts.

    A recording is of the numbers and tensors that were there. Where one of them changes, another is due.

    Args:
        roots: the objects to begin from.
        passed: types whose objects hold nothing that the function reads.
    """

    def __init__(self, roots: Iterable[Any], passed: tuple[type, ...] = ()) -> None:
        self.numbers: list[tuple[dict[Any, Any], Any]] = []  # each in its dict, and its key there
        self.idle: list[int] = []  # how often each has changed without effect
        self.doubtful: list[int] = []  # those that have changed, with what effect is not known yet
        self.version = 0
        self.tensors: dict[int, tuple[dict[Any, Any], Any]] = {}  # by their ids
        self.passed = (*passed, type, gym.Space, torch.Generator)
        self.seen: set[int] = set()
        for root in roots:
            self.look(root)
        self.values = self.now()

    def look(self, x: Any) -> None:
        """Note what an object holds, and what that holds."""
        if id(x) in self.seen or isinstance(x, self.passed):
            return
        self.seen.add(id(x))
        if isinstance(x, dict):
            self.look_at(x)
        elif isinstance(x, list | tuple | set):
            for part in x:
                self.look(part)
        elif hasattr(x, "__self__"):  # a method
            self.look(x.__self__)
        elif isinstance(x, nn.Module):
            own = {key: value for key, value in vars(x).items() if not key.startswith("_")}
            self.look_at(vars(x), own)
            for part in (x._parameters, x._buffers, x._modules):
                self.look_at(part)
        elif hasattr(x, "__dict__") and type(x).__module__.partition(".")[0] not in FOREIGN:
            self.look_at(vars(x))

    def look_at(self, held: dict[Any, Any], items: dict[Any, Any] | None = None) -> None:
        """Note a dict's numbers and tensors, and look at the rest."""
        for key, value in list((held if items is None else items).items()):
            if value.__class__ in PLAIN:
                self.numbers.append((held, key))
                self.idle.append(0)
            elif isinstance(value, Tensor):
                self.tensors.setdefault(id(value), (held, key))
            else:
                self.look(value)

    def now(self) -> list[Any]:
        """Return the numbers as they are now; the type of what has become something else."""
        values = (held.get(key) for held, key in self.numbers)
        return [x if x.__class__ in PLAIN else x.__class__ for x in values]

    def changed(self) -> bool:
        """Tell whether a number that may be read isn't what it was at the last call; `version` counts such calls."""
        now = self.now()
        if now == self.values:
            return False
        differ = [i for i, (old, new) in enumerate(zip(self.values, now, strict=True)) if old != new]
        self.values, self.doubtful, self.version = now, differ, self.version + 1
        return True

    def judge(self, mattered: bool) -> None:
        """Note whether the last change made another recording; forget what changed too often without."""
        for i in self.doubtful:
            self.idle[i] = 0 if mattered else self.idle[i] + 1
        self.doubtful = []
        if max(self.idle, default=0) >= PATIENCE:
            keep = [i for i, n in enumerate(self.idle) if n < PATIENCE]
            self.numbers = [self.numbers[i] for i in keep]
            self.values = [self.values[i] for i in keep]
            self.idle = [self.idle[i] for i in keep]

    def places(self, tensors: Sequence[Tensor]) -> list[tuple[dict[Any, Any], Any, Tensor]]:
        """Return where tensors are kept, as far as it was found: the dict, the key there, the tensor."""
        return [(*self.tensors[id(x)], x) for x in tensors if id(x) in self.tensors]
