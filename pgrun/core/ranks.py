"""Reductions over the processes that learn together, the ranks; each is the identity in a process alone.

Between `join` and `leave` this process is one of several. Then each of these functions is where they meet: all ranks
call it, in the same order and with the same shapes, and all have the same answer to the bit, so that they decide alike
whatever they decide by it. No gradient flows through.
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
    """From here on this process is one of a torch.distributed group."""
    global _group
    _group = group


def leave() -> None:
    """From here on this process is alone."""
    global _group
    _group = None


@contextmanager
def meeting() -> Iterator[None]:
    """Round what asks for all ranks: torch.distributed's errors are told as Parted."""
    try:
        yield
    except RuntimeError as error:
        raise Parted(str(error).splitlines()[0]) from error


def total(*x: Tensor) -> Any:
    """Σ_r x_r of one tensor, or of each of several; any shapes. Several take one message."""
    if _group is None:
        return x[0] if len(x) == 1 else x
    flat = torch.cat([each.detach().reshape(-1) for each in x])
    _meet(flat, dist.ReduceOp.SUM)
    parts = flat.split([each.numel() for each in x])
    summed = tuple(part.view_as(each).to(each.dtype) for part, each in zip(parts, x, strict=True))
    return summed[0] if len(x) == 1 else summed


def mean(n: Tensor, *x: Tensor) -> Any:
    """Σ_r n_r x_r / Σ_r n_r: of means over n entries here (0-dim; may be 0), the mean over all ranks' entries."""
    if _group is None:
        return x[0] if len(x) == 1 else x
    n = n.to(x[0].dtype)
    everywhere, *summed = total(n, *(each * n for each in x))
    means = tuple(each / everywhere.clamp(min=1.0) for each in summed)
    return means[0] if len(x) == 1 else means


def of_others(x: Tensor) -> Tensor:
    """Σ x over the other ranks; zeros where there are none."""
    return total(x) - x


def largest(x: Tensor) -> Tensor:
    """max_r x_r, elementwise."""
    if _group is None:
        return x
    x = x.detach().clone()
    _meet(x, dist.ReduceOp.MAX)
    return x


def total_count(n: int) -> int:
    """Σ_r n_r of whole numbers."""
    return n if _group is None else int(total(torch.tensor(n)))


def largest_count(n: int) -> int:
    """max_r n_r of whole numbers."""
    return n if _group is None else int(largest(torch.tensor(n)))


def _meet(x: Tensor, operation: Any) -> None:
    try:
        dist.all_reduce(x, operation, group=_group)
    except RuntimeError as error:
        raise Parted(str(error).splitlines()[0]) from error
