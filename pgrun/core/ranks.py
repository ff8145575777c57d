"""Reductions over the processes that learn together, the ranks; in a process alone each is the identity.

Between `join` and `leave` this process is one of several. All ranks then call each of these functions, in the same
order and with the same shapes. All get the same result to the bit, so that what they decide by it is the same. No
gradient flows through.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_group: Any = None  # the process group, where there is one


class Parted(Exception):
    """Another rank is gone, or did not come in time."""


def join(group: Any) -> None:
    """Make this process one of a torch.distributed group."""
    global _group
    _group = group


def leave() -> None:
    """Make this process alone again."""
    global _group
    _group = None


@contextmanager
def meeting() -> Iterator[None]:
    """Turn torch.distributed's errors into Parted, in a block where all ranks meet."""
    try:
        yield
    except RuntimeError as error:
        raise Parted(str(error).splitlines()[0]) from error


def total(*x: Tensor) -> Any:
    """Sum one tensor, or each of several, over the ranks; any shapes, in one message."""
    if _group is None:
        return x[0] if len(x) == 1 else x
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in x])
    _meet(flat, dist.ReduceOp.SUM)
    parts = flat.split([tensor.numel() for tensor in x])
    summed = tuple(part.view_as(tensor).to(tensor.dtype) for part, tensor in zip(parts, x, strict=True))
    return summed[0] if len(x) == 1 else summed


def mean(n: Tensor, *x: Tensor) -> Any:
    """Average x, the mean of this rank's n entries, over all ranks: Σ_r n_r x_r / Σ_r n_r; n is 0-dim and may be 0."""
    if _group is None:
        return x[0] if len(x) == 1 else x
    n = n.to(x[0].dtype)
    n_total, *summed = total(n, *(tensor * n for tensor in x))
    means = tuple(tensor / n_total.clamp(min=1.0) for tensor in summed)
    return means[0] if len(x) == 1 else means


def of_others(x: Tensor) -> Tensor:
    """Sum x over the other ranks; zeros where there are none."""
    return total(x) - x


def largest(x: Tensor) -> Tensor:
    """Return max_r x_r, elementwise."""
    if _group is None:
        return x
    x = x.detach().clone()
    _meet(x, dist.ReduceOp.MAX)
    return x


def concatenated(x: Tensor) -> Tensor:
    """Join the vectors [n_r] of all ranks; NaN follows those that are shorter than the longest."""
    if _group is None:
        return x
    rows = x.new_zeros(dist.get_world_size(_group), largest_count(len(x)))
    own_row = rows[dist.get_rank(_group)]
    own_row.fill_(torch.nan)[: len(x)] = x
    return total(rows).flatten()


def total_count(n: int) -> int:
    """Sum a whole number over the ranks."""
    return n if _group is None else int(total(torch.tensor(n)))


def largest_count(n: int) -> int:
    """Return the largest of a whole number over the ranks."""
    return n if _group is None else int(largest(torch.tensor(n)))


def _meet(x: Tensor, operation: Any) -> None:
    try:
        dist.all_reduce(x, operation, group=_group)
    except RuntimeError as error:
        raise Parted(str(error).splitlines()[0]) from error
