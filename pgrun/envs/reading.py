"""Readers of observations: each copies what an environment shows into its space's form, or refuses it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from pgrun.errors import UserError

spaces = gym.spaces
log = logging.getLogger("pgrun")
Reader = Callable[[Any], Any]
WIDE, FAR = 1e4, 1e10  # half-widths of action bounds: hardly meant from the first, none from the second
LARGEST = 2.0**24  # float32 has every whole number up to here


def reader(space: gym.Space, name: str, *, copy: bool = True) -> Reader:
    """Make a function that reads an observation as arrays of the space's shapes and types.

    Args:
        space: of the observations.
        name: what to call them in a refusal.
        copy: whether the arrays must be fresh ones.

    Returns:
        The function. It raises UserError for a wrong shape, a number that can't be held, or a choice that isn't one.
    """
    if isinstance(space, spaces.Dict):
        return _dict_reader(space, name, copy)
    if isinstance(space, spaces.Discrete):
        return _discrete_reader(space, name)
    if isinstance(space, (spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)):
        return _array_reader(space, name, copy)
    return lambda x: x  # no network reads it


def _dict_reader(space: spaces.Dict, name: str, copy: bool) -> Reader:
    parts = {key: reader(part, f"{name}[{key!r}]", copy=copy) for key, part in space.items()}

    def read(x: Any) -> dict[str, Any]:
        try:
            return {key: part(x[key]) for key, part in parts.items()}
        except (KeyError, TypeError, IndexError) as error:
            keys = ", ".join(map(repr, parts))
            given = f"a dict of {', '.join(map(repr, x)) or 'nothing'}" if isinstance(x, Mapping) else shown(x)
            raise UserError(f"{name} is {given}, but its space says a dict of {keys}") from error

    return read


def _discrete_reader(space: spaces.Discrete, name: str) -> Reader:
    first, end = int(space.start), int(space.start) + int(space.n)

    def read(x: Any) -> int:
        if type(x) is not int:
            a = _plain(x, space, name)
            if a.dtype.kind not in "iu" or a.shape != ():
                raise UserError(f"{name} is {shown(x)}, but its space says {said(space)}")
            x = int(a)
        if not first <= x < end:
            raise UserError(f"{name} is {x}, but its space says {said(space)}")
        return x

    return read


def _array_reader(space: gym.Space, name: str, copy: bool) -> Reader:
    shape, dtype = space.shape, np.dtype(space.dtype)  # type: ignore[arg-type]
    floating = dtype.kind == "f"
    low: Any = None  # bounds of choices, which are checked each time
    high: Any = None
    if isinstance(space, spaces.MultiDiscrete):
        low, high = space.start, space.start + space.nvec - 1
    elif isinstance(space, spaces.MultiBinary):
        low, high = 0, 1

    def read(x: Any) -> np.ndarray:
        if type(x) is np.ndarray and x.dtype == dtype and x.shape == shape:
            a = x.copy() if copy else x
        else:
            given = _plain(x, space, name)
            if given.shape != shape:
                raise UserError(f"{name} is {shown(x)}, but its space says {said(space)}")
            a = given.astype(dtype)
            if not floating and not np.array_equal(a, given):
                raise UserError(f"{name} holds {_odd(given, a != given)}, but its space says {said(space)}")
        if low is not None and ((a < low) | (a > high)).any():
            raise UserError(f"{name} holds {_odd(a, (a < low) | (a > high))}, but its space says {said(space)}")
        return a

    return read


def _plain(x: Any, space: gym.Space, name: str) -> np.ndarray:
    """Return an observation as an array of numbers, in whatever type it came."""
    try:
        a = np.asarray(x)
    except Exception as error:  # ragged lists are a ValueError, a tensor on a GPU a TypeError, and so on
        raise UserError(f"{name} is {shown(x)}, but its space says {said(space)}") from error
    if a.dtype.kind not in "biuf":
        raise UserError(f"{name} is {shown(x)}, but its space says {said(space)}")
    return a


def _odd(a: np.ndarray, where: np.ndarray) -> str:
    return f"{a[where].flat[0]}"


def look_closely(space: gym.Space, x: Any, name: str, *, float64: bool = False) -> None:
    """Check an observation, as `reader` read it, against its space's bounds.

    Integers beyond them are refused. Floating numbers reach the policy as they are, so they only get a warning. So do
    numbers that float32 would round, unless they are kept in `float64`.

    Raises:
        UserError: a whole number is beyond the bounds.
    """
    if isinstance(space, spaces.Dict):
        for key, part in space.items():
            look_closely(part, x[key], f"{name}[{key!r}]", float64=float64)
    if not isinstance(space, spaces.Box):
        return
    beyond = (x < space.low) | (x > space.high)
    if beyond.any():
        text = f"{name} holds {_odd(x, beyond)}, but its space says {said(space)}"
        if np.dtype(space.dtype).kind != "f":  # type: ignore[arg-type]
            raise UserError(text)
        _warn(text)
    large = np.isfinite(x) & (np.abs(x.astype(np.float64)) > LARGEST)
    if large.any() and not float64 and not np.can_cast(x.dtype, np.float32):
        _warn(
            f"{name} holds {_odd(x, large)}, and networks read float32, which has seven digits: with "
            "network.normalize_obs=true the mean is taken off before they are rounded"
        )


def look_at_bounds(actions: gym.Space, name: str) -> None:
    """Warn of bounds that are hardly meant: a policy's actions are scaled to them."""
    if isinstance(actions, spaces.Box) and actions.dtype.kind == "f":
        low, high = actions.low.astype(np.float64), actions.high.astype(np.float64)
        half = (high - low)[np.isfinite(high - low) & (high - low < FAR)] / 2.0
        if half.size and half.max() > WIDE:
            _warn(
                f"the actions of {name} have bounds {2 * half.max():g} apart, and a policy's first ones are "
                "spread over all of that: env.wrappers=[ClipAction] takes them as they are, cut at the bounds"
            )


_told: set[str] = set()


def _warn(text: str) -> None:
    """Log a warning once a process, whichever copy it comes from."""
    kind = text.partition(" holds ")[0]
    if kind not in _told:
        _told.add(kind)
        log.warning("%s", text)


def shown(x: Any) -> str:
    """Describe a value in a few words."""
    if x is None or isinstance(x, (str, bytes, bool, int, float)):
        return repr(x)[:40]
    if isinstance(x, np.generic):
        return f"{x!r}"[:40]
    if hasattr(x, "shape") and hasattr(x, "dtype") and not isinstance(x, gym.Space):
        kind = "an array" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
        return f"{kind} of shape {tuple(x.shape)} and type {x.dtype}"
    if isinstance(x, (list, tuple)):
        return f"a {type(x).__name__} of {len(x)}"
    return f"a {type(x).__name__}"


def said(space: gym.Space) -> str:
    """Describe a space in a few words."""
    if isinstance(space, spaces.Box):
        bounds = f", from {space.low.min():g} to {space.high.max():g}" if space.low.size else ""
        return f"Box of shape {space.shape} and type {space.dtype}{bounds}"
    text = str(space)
    if len(text) > 80 and isinstance(space, spaces.Dict | spaces.Tuple):
        if isinstance(space, spaces.Dict):
            return f"Dict of {', '.join(f'{key!r}: {said(part)}' for key, part in space.items())}"
        return f"Tuple of {', '.join(map(said, space))}"
    return text if len(text) <= 80 else f"{type(space).__name__} of shape {space.shape}"
