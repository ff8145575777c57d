"""Schedules as they are written in a config: `linear:FIRST:LAST`, `cosine:FIRST:LAST`, `piecewise:VALUE@SHARE:…`."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

FORMS = "linear:FIRST:LAST, cosine:FIRST:LAST (both with :SHARE of the run) or piecewise:VALUE@SHARE:…"


class Points(NamedTuple):
    """The points that a schedule goes through.

    Args:
        curve: how the number goes from point to point: linear or cosine (half a wave).
        shares: of the run, in [0, 1], in order.
        values: the number at each of them.
    """

    curve: str
    shares: tuple[float, ...]
    values: tuple[float, ...]


def parse(text: str) -> Points:
    """Read a schedule.

    Args:
        text: `linear:FIRST:LAST` falls or rises over the whole run, `linear:FIRST:LAST:SHARE` over its first part;
            `cosine` likewise; `piecewise:VALUE@SHARE:VALUE@SHARE:…` joins its points by straight lines.

    Raises:
        ValueError: it is none; the message says what is wrong.
    """
    kind, *parts = text.split(":")
    if kind == "piecewise":
        pairs = [part.split("@") for part in parts]
        if len(pairs) < 2 or any(len(pair) != 2 for pair in pairs):
            raise ValueError("piecewise needs two points or more, as piecewise:0.01@0:0.001@0.5:0@1")
        shares, values = tuple(number(x) for _, x in pairs), tuple(number(x) for x, _ in pairs)
        if any(b < a for a, b in itertools.pairwise(shares)) or not (shares[0] >= 0.0 and shares[-1] <= 1.0):
            raise ValueError("the shares of the run after each @ must rise from 0 to 1")
        return Points("linear", shares, values)
    if kind not in ("linear", "cosine") or len(parts) not in (2, 3):
        raise ValueError(f"a schedule is {FORMS}")
    first, last, share = (*map(number, parts), 1.0)[:3]
    if not 0.0 < share <= 1.0:
        raise ValueError(f"{share:g} is no share of the run: it must be above 0 and at most 1")
    return Points(kind, (0.0, share), (first, last))


def number(text: str) -> float:
    """Read a finite number.

    Raises:
        ValueError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} in it is no number")
    return value
