"""Schedules: numbers that change over a run, as functions of its progress in [0, 1]."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

from pgrun.config.schedule_text import Points, parse

# factors in [0, 1] that multiply a number
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: max(1.0 - progress, 0.0),
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))),
}


class Schedule:
    """A number that follows its schedule over a run, or stays as it is.

    Args:
        value: a number, or the text of a schedule; see `pgrun.config.schedule_text.parse`.
        falling: how a plain number falls to 0 over the run; constant: it does not. A text says all by itself.
        setting: the name of the setting that says `falling`.

    Raises:
        ValueError: `falling` is unknown, or the text is no schedule.
    """

    def __init__(self, value: float | str, falling: str = "constant", *, setting: str = "") -> None:
        if falling not in SCHEDULES:
            raise ValueError(f"{setting}={falling} is not known; choose one of {', '.join(SCHEDULES)}")
        text = isinstance(value, str)
        self.constant = falling == "constant" and not text
        self.points = parse(value) if isinstance(value, str) else Points("linear", (0.0,), (float(value),))
        self.factor = SCHEDULES["constant" if text else falling]

    def __call__(self, progress: float) -> float:
        """Return the number at this progress of the run, in [0, 1]."""
        return self.followed(progress) * self.factor(progress)

    def followed(self, progress: float) -> float:
        """Return the number that the text says, at this progress of the run."""
        curve, shares, values = self.points
        after = bisect_right(shares, progress)  # a jump, two points at one share, has its second value there
        if after == 0:
            return values[0]
        if after == len(shares):
            return values[-1]
        begin, end = shares[after - 1], shares[after]
        left = SCHEDULES[curve]((progress - begin) / (end - begin))  # the part of the way that is still to go
        return values[after] + (values[after - 1] - values[after]) * left
