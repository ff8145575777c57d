"""A tree of sums, for draws in proportion to priorities that change."""

from __future__ import annotations

import torch
from torch import Tensor

BELOW_ONE = 1.0 - 2.0**-53


class SumTree:
    """A tree over n priorities: each node holds the sum of its `width` children, up to one root.

    A parent is the last term of its children's running sum, computed anew whenever one of them changes. Nothing is
    added to an old sum, so nothing drifts, and a draw finds the same numbers that the parents hold.
    """

    def __init__(self, n: int, *, width: int = 64, device: str | torch.device = "cpu") -> None:
        self.n, self.width = n, width
        self.levels: list[Tensor] = []  # [nodes / width, width], leaves first; the root's children last
        rows = n
        while not self.levels or rows > 1:
            rows = -(-rows // width)
            self.levels.append(torch.zeros(rows, width, dtype=torch.float64, device=device))

    @property
    def leaves(self) -> Tensor:
        """The priorities, [n], and zeros behind them."""
        return self.levels[0].view(-1)

    @property
    def total(self) -> Tensor:
        """The sum of all priorities, 0-dim."""
        return self.levels[-1][0].cumsum(-1)[-1]

    def get(self, index: Tensor) -> Tensor:
        """Return the priorities [M] of the leaves at `index` [M]."""
        return self.leaves.index_select(0, index)

    def set(self, index: Tensor, priority: Tensor) -> None:
        """Change the priorities of the leaves at `index` [M]; where a leaf is there twice, one of the two counts."""
        self.leaves[index] = priority.to(torch.float64)
        for children, parents in zip(self.levels, self.levels[1:], strict=False):
            index = index // self.width
            parents.view(-1)[index] = children.index_select(0, index).cumsum(-1)[:, -1]

    def find(self, mass: Tensor) -> Tensor:
        """Find the leaves [M] in which running sums of the priorities pass `mass` [M], in [0, total).

        A leaf of priority 0 is never found.
        """
        index = torch.zeros_like(mass, dtype=torch.long)
        for level in reversed(self.levels):
            sums = level.index_select(0, index).cumsum(-1)  # [M, width]
            mass = torch.minimum(mass, sums[:, -1] * BELOW_ONE)  # against rounding
            child = torch.searchsorted(sums, mass.unsqueeze(-1), right=True)  # [M, 1]
            before = sums.gather(-1, (child - 1).clamp_(min=0)).masked_fill_(child == 0, 0.0)
            mass = mass - before.squeeze(-1)
            index = index * self.width + child.squeeze(-1)
        return index

    def draw(self, m: int) -> Tensor:
        """Draw m leaves, each with probability in proportion to its priority.

        One is drawn from each of m equal shares of the mass.
        """
        like = self.leaves.new_empty(m)
        return self.find((torch.arange(m, device=like.device) + torch.rand_like(like)) / m * self.total)
