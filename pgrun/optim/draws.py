"""Random draws of a program: of one call, and of n calls in as few calls of torch as give the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import methodcaller
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgrun.optim.recording import Draw, Like

Drawer = Callable[[], list[Tensor]]

FILLS = {  # torch's method that fills a tensor as the operator does
    **{"rand": "uniform_", "rand_like": "uniform_", "uniform_": "uniform_"},
    **{"randn": "normal_", "randn_like": "normal_", "normal_": "normal_"},
    **{"exponential_": "exponential_", "bernoulli_": "bernoulli_"},
}


def drawer(draws: Sequence[tuple[Draw, Like]]) -> Drawer:
    """Return a function that makes random draws, one after the other."""
    made = [alone(*draw) for draw in draws]
    return lambda: [draw() for draw in made]


def alone(draw: Draw, like: Like) -> Callable[[], Tensor]:
    """Return a function that makes one random draw, of this form."""
    name, args, kwargs = draw
    fill = fill_of(draw)
    if fill is not None and not any(isinstance(x, Like) for x in fill.args) and like.empty().is_contiguous():
        new = partial(torch.empty, like.size, dtype=like.dtype, device=like.device)
        filled = methodcaller(fill.method, *fill.args, generator=generator_of(draw))
        return lambda: filled(new())  # quicker than the operator, and the same numbers
    if not any(isinstance(x, Like) for x in (*args, *kwargs.values())):
        return lambda: name(*args, **kwargs)
    return lambda: name(*map(empty, args), **{key: empty(x) for key, x in kwargs.items()})


def empty(x: Any) -> Any:
    """Make the tensor that a form stands for; return anything else as it is."""
    return x.empty() if isinstance(x, Like) else x


def repeated(draws: Sequence[tuple[Draw, Like]], n: int) -> Drawer:
    """Return a function that makes the draws of n calls, each [n, ...], with the bits of n calls in a row.

    All of one kind from one generator are made at once where that gives the same bits, and leaves the generator in
    the same state. It depends on the kind, the size and the processor, so it is tried out.

    Args:
        draws: of one call, in order, with their forms.
        n: calls.
    """
    places: dict[int, list[int]] = {}  # of the draws from each generator
    for i, (draw, _) in enumerate(draws):
        places.setdefault(id(generator_of(draw)), []).append(i)
    groups = [(here, from_one([draws[i] for i in here], n)) for here in places.values()]

    def made() -> list[Tensor]:
        found: dict[int, Tensor] = {}
        for here, group in groups:
            found.update(zip(here, group(), strict=True))
        return [found[i] for i in range(len(draws))]

    return made


def generator_of(draw: Draw) -> torch.Generator:
    """Return the generator that a draw is from."""
    return draw.kwargs.get("generator") or torch.default_generator


def from_one(draws: Sequence[tuple[Draw, Like]], n: int) -> Drawer:
    """Return a function that makes the draws of n calls, all from one generator; see `repeated`."""
    call, generator = drawer(draws), generator_of(draws[0][0])

    def one_by_one() -> list[Tensor]:
        return [torch.stack(x) for x in zip(*[call() for _ in range(n)], strict=True)]

    return next((way for way in at_once(draws, n) if same_bits(one_by_one, way, generator)), one_by_one)


class Fill(NamedTuple):
    """A way to fill a tensor with random numbers: torch's method, and its other arguments."""

    method: str
    args: tuple[Any, ...]


def fill_of(draw: Draw) -> Fill | None:
    """Return the way in which a draw's numbers are made; None where the size is not all that may differ."""
    method = FILLS.get(draw.name.__name__.partition(".")[0])
    return None if method is None else Fill(method, tuple(draw.args[1:]))


def at_once(draws: Sequence[tuple[Draw, Like]], n: int) -> Iterator[Drawer]:
    """Yield functions that make the draws of n calls by one call of torch, in the order of the calls."""
    (fill, *others), likes = [fill_of(draw) for draw, _ in draws], [like for _, like in draws]
    first, generator = likes[0], generator_of(draws[0][0])
    if fill is None or any(other != fill for other in others) or any(like.dtype != first.dtype for like in likes):
        return
    if any(not like.empty().is_contiguous() for like in likes):
        return
    numbers = [torch.Size(like.size).numel() for like in likes]

    def made(apart: int) -> list[Tensor]:
        whole = torch.empty_strided((n, sum(numbers)), (sum(numbers) * apart, apart), dtype=first.dtype)
        getattr(whole, fill.method)(*fill.args, generator=generator)
        parts = whole.split(numbers, 1) if len(numbers) > 1 else [whole]
        return [part.reshape(n, *like.size).contiguous() for part, like in zip(parts, likes, strict=True)]

    yield lambda: made(1)
    yield lambda: made(2)  # with gaps in memory torch draws normal numbers one by one, as it does fewer than 16


def same_bits(one: Drawer, other: Drawer, generator: torch.Generator) -> bool:
    """Tell whether two ways to draw give the same numbers, and leave the generator in the same state."""
    before, found = generator.get_state(), []
    try:
        for used in (False, True):  # a normal number may wait in the generator for the next call
            for draws in (one, other):
                generator.manual_seed(1)
                if used:
                    torch.randn(1, generator=generator)
                found.append([*draws(), generator.get_state()])
    finally:
        generator.set_state(before)
    return all(map(torch.equal, found[0] + found[2], found[1] + found[3]))
