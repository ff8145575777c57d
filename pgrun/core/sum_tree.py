"""A tree of sums: draws with probability in proportion to priorities that change."""

from __future__ import annotations

import torch
from torch import Tensor

BELOW_ONE = 1.0 - 2.0**-53


class SumTree:
    """n priorities, of which each node of the level above holds the sum of `width`, and so on to one root.

    A parent is the last term of its children's running sum, worked out anew whenever one of them changes: nothing is
    added to what was there, so nothing drifts, and drawing finds the very numbers that the parents hold.
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
        """The priorities, [n] and zeros."""
        return self.levels[0].view(-1)

    @property
    def total(self) -> Tensor:
        """The sum of all, 0-dim."""
        return self.levels[-1][0].cumsum(-1)[-1]

    def get(self, index: Tensor) -> Tensor:
        """Priorities [M] of the leaves at `index` [M]."""
        return self.leaves.index_select(0, index)

    def set(self, index: Tensor, priority: Tensor) -> None:
        """Change the priorities of the leaves at `index` [M]; where one is there twice, one of the two is taken."""
        self.leaves[index] = priority.to(torch.float64)
        for children, parents in zip(self.levels, self.levels[1:], strict=False):
            index = index // self.width
            parents.view(-1)[index] = children.index_select(0, index).cumsum(-1)[:, -1]

    def find(self, mass: Tensor) -> Tensor:
        """The leaves [M] in which running sums of the priorities pass `mass` [M], in [0, total); never one of zero."""
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
        """m leaves, one out of each of m equal shares of the mass: each leaf with probability in proportion."""
        like = self.leaves.new_empty(m)
        return self.find((torch.arange(m, device=like.device) + torch.rand_like(like)) / m * self.total)
