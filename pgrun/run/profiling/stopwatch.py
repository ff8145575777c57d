"""A stopwatch for calls within calls."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str, ...]  # the parts that are open, the outermost first


class Stopwatch:
    """Times parts of a program that lie within one another, each under the path of the parts around it."""

    def __init__(self) -> None:
        self.path: Path = ()
        self.begun: list[float] = []
        self.reset()

    def reset(self) -> None:
        """Forget all times. No part may be open."""
        assert not self.path
        self.seconds: dict[Path, float] = defaultdict(float)
        self.calls: Counter[Path] = Counter()

    def begin(self, part: str) -> None:
        """Begin a part."""
        self.path = (*self.path, part)
        self.begun.append(time.perf_counter())

    def end(self) -> None:
        """End the part that was begun last."""
        self.seconds[self.path] += time.perf_counter() - self.begun.pop()
        self.calls[self.path] += 1
        self.path = self.path[:-1]

    def timed(self, function: Callable[..., Any], part: str, after: Callable[[], None] | None = None) -> Any:
        """Return the function, timed as a part at each call.

        Args:
            function: the function.
            part: the part's name.
            after: called at the end of each call, within its time.
        """

        def call(*args: Any, **kwargs: Any) -> Any:
            self.begin(part)
            try:
                return function(*args, **kwargs)
            finally:
                if after is not None:
                    after()
                self.end()

        return call

    def timed_items(self, function: Callable[..., Iterator[Any]], part: str) -> Callable[..., Iterator[Any]]:
        """Return the generator function, with the making of each item timed as a part."""

        def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
            items = function(*args, **kwargs)
            make = self.timed(next, part)
            while (item := make(items, None)) is not None:
                yield item

        return call


def replace_methods(owner: Any, **methods: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace methods of one object, and of its copies, by what is made of them.

    The object becomes one of a subclass. So a copy of it calls its own methods, and not the object's.

    Args:
        owner: the object.
        methods: by name; each takes the method as a function of self, and returns what stands in its place.
    """
    kind = type(owner)
    made = {name: wrap(getattr(kind, name)) for name, wrap in methods.items()}
    owner.__class__ = type(kind.__name__, (kind,), {"__module__": kind.__module__, **made})
