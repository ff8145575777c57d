"""The types of settings, which are written beside the arguments of constructors.

A constructor says `gamma: Fraction` or `update: Literal["rollout", "step"]`; the Args of its docstring say what the
setting means. The check before a run, its messages and `pgrun explain` read both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar


@dataclass(frozen=True)
class Range:
    """The range of numbers that a setting may have.

    Args:
        low, high: the ends; None: there is none.
        open_low, open_high: whether the end itself is excluded.
        negative: whether numbers below 0 are allowed, too; −1 then means all that there are.
    """

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    negative: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a number lies in the range; NaN lies in none."""
        above = self.low is None or (value > self.low if self.open_low else value >= self.low)
        below = self.high is None or (value < self.high if self.open_high else value <= self.high)
        return (above and below) or (self.negative and value < 0)

    def __str__(self) -> str:
        if self.low is not None and self.high is not None and not (self.open_low or self.open_high):
            return f"from {self.low:g} to {self.high:g}" if self.high < 1e6 else f"from {self.low:g} to {self.high}"
        ends = []
        if self.low is not None:
            ends.append(f"above {self.low:g}" if self.open_low else f"at least {self.low:g}")
        if self.high is not None:
            ends.append(f"below {self.high:g}" if self.open_high else f"at most {self.high:g}")
        return " and ".join(ends) + (", or -1 for as many as there are" if self.negative else "")


@dataclass(frozen=True)
class Form:
    """The form of the words that a setting may be.

    Args:
        pattern: a regular expression that the whole word matches.
        words: the same in plain words.
    """

    pattern: str
    words: str

    def holds(self, value: str) -> bool:
        """Return whether a word has the form."""
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class Place:
    """Marks a setting that names a file or directory, which a run keeps as an absolute path.

    Args:
        but: the beginning of names that are no paths.
    """

    but: str = "minari:"


@dataclass(frozen=True)
class OrSchedule:
    """Marks a number that may also be a schedule over the run, as a text; see `pgrun.config.schedule_text`."""


Count = Annotated[int, Range(1)]
Nodes = Annotated[int, Range(1, 256)]  # of a quadrature; numpy's weights overflow beyond 300
CountOrZero = Annotated[int, Range(0)]
Workers = Annotated[int, Range(1, negative=True)]
Positive = Annotated[float, Range(0, open_low=True)]
NotNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
Share = Annotated[float, Range(0, 1, open_low=True)]  # a positive share of a whole
Decay = Annotated[float, Range(0, 1, open_high=True)]  # the decay of a running mean
Between = Annotated[float, Range(0, 1, open_low=True, open_high=True)]
Seed = Annotated[int, Range(0, 10**18)]  # torch takes 64 bits, and evaluation's seeds are higher than the run's
Falling = Literal["constant", "linear", "cosine"]  # the way in which a value falls to 0 over a run
Number = TypeVar("Number")
Scheduled = Annotated[Number, OrSchedule()]  # as in Scheduled[Positive]
FileName = Annotated[str, Place()]  # the path of a file or of a run
Device = Annotated[str, Form(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:N")]
