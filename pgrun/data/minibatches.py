"""Minibatches of a rollout."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pgrun.data.types import Transition

Pick = Callable[[Transition, Tensor], Transition]


class Minibatches:
    """Parts of a rollout to learn from, one after the other: random rows or columns, `epochs` times through it.

    Args:
        whole: rows [n, ...], or columns [L, n, ...].
        n: rows, or columns.
        pick: returns the rows, or columns, at an index [M].
        epochs: passes.
        shares: the places in an epoch's random order that are the parts; one of all of them is `whole` as it is.
    """

    def __init__(
        self, whole: Transition, n: int, pick: Pick, epochs: int, shares: list[slice], *, entire: bool
    ) -> None:
        self.whole, self.n, self.pick, self.epochs, self.shares, self.entire = whole, n, pick, epochs, shares, entire

    def __len__(self) -> int:
        """Return how many parts there are in all epochs."""
        return self.epochs * len(self.shares)

    def order(self) -> Tensor:
        """Draw an epoch's order, [n]."""
        return torch.randperm(self.n, device=self.whole.reward.device)

    def __iter__(self) -> Iterator[Transition]:
        """Yield the parts; an epoch's order is drawn as it begins."""
        for _ in range(self.epochs):
            order = self.order()
            for share in self.shares:
                yield self.whole if self.entire else self.pick(self.whole, order[share])

    @property
    def even(self) -> bool:
        """Whether all parts are of one size."""
        return len({share.stop - share.start for share in self.shares}) == 1

    def index(self) -> Tensor:
        """Draw all orders; return which rows, or columns, each part has, [parts, M]. All must be of one size."""
        orders = [self.order() for _ in range(self.epochs)]
        return torch.stack([order[share] for order in orders for share in self.shares])

    def part(self, index: Tensor) -> Transition:
        """Return the part at an index [M]."""
        return self.whole if self.entire else self.pick(self.whole, index)
