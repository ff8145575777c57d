"""Numbers of the steps to come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

MOST = 64  # steps whose numbers are made at once


class Upcoming:
    """Keep numbers for the next steps, made for several steps at once while nothing that decides them changes.

    At most half of them are made for nothing. A tensor of many rows takes hardly longer to make than one of one row.

    Args:
        make: makes tensors [n, ...] for n steps, given the number of the first, and n.
    """

    def __init__(self, make: Callable[[int, int], tuple[Tensor, ...]]) -> None:
        self.make, self.first = make, 0
        self.decided: tuple[float, ...] = ()
        self.rows: list[tuple[Tensor, ...]] = []  # of the steps from the first on

    def __call__(self, step: int, decides: Sequence[float]) -> tuple[Tensor, ...]:
        """Return the tensors [...] of a step.

        Args:
            step: its number.
            decides: the numbers that decide it, beside the step's.
        """
        place, same = step - self.first, tuple(decides) == self.decided
        if not same or not 0 <= place < len(self.rows):
            n = min(2 * len(self.rows), MOST) if same and place == len(self.rows) > 0 else 1
            self.first, self.decided, place = step, tuple(decides), 0
            self.rows = list(zip(*(x.unbind() for x in self.make(step, n)), strict=True))
        return self.rows[place]
