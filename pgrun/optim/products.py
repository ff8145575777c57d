"""Matrix products in the form in which compiled code is quickest at them on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

FEW_COLUMNS = 32  # with more, both orders of the factors take equally long
FEW_ROWS, SMALL = 8, 64  # rows of a product, and its other sizes, up to which sums are quicker than a library's call

Do = Callable[..., Any]  # makes an operation, given torch's operator and its arguments


def product(name: Any, args: tuple[Any, ...], kwargs: dict[str, Any], do: Do) -> Tensor | None:
    """Compute a product in its quickest form; return None where that is the operation itself, or there is no product.

    Args:
        name: torch's operator.
        args: its arguments.
        kwargs: its arguments by name.
        do: makes an operation.
    """
    if name not in (aten.mm.default, aten.addmm.default, aten.bmm.default) or kwargs:
        return None
    a, b = args[-2:]
    if name is not aten.bmm.default and a.shape[0] <= FEW_ROWS and max(b.shape) <= SMALL and a.dtype == torch.float32:
        result: Tensor = sums(do, a, b)
        return result if name is aten.mm.default else do(aten.add.Tensor, (result, args[0]))
    if name is not aten.addmm.default and turns(a, b):
        a, b = (do(aten.transpose.int, (x, -2, -1)) for x in (a, b))
        turned: Tensor = do(aten.transpose.int, (do(name, (b, a)), -2, -1))
        return turned
    return None


def sums(do: Do, a: Tensor, b: Tensor) -> Tensor:
    """Compute AB [m, n] as the sum over k of A [m, 1, k] times Bᵀ [1, n, k].

    The compiler joins it with what comes before and after. With few rows a library's call takes longer than this.
    """
    rows, columns = do(aten.unsqueeze.default, (a, 1)), do(aten.unsqueeze.default, (do(aten.t.default, (b,)), 0))
    total: Tensor = do(aten.sum.dim_IntList, (do(aten.mul.Tensor, (rows, columns)), [2]))
    return total


def turns(a: Tensor, b: Tensor) -> bool:
    """Tell whether AB is quicker as (BᵀAᵀ)ᵀ.

    It is where A is stored by columns, B by rows, and B has few columns: so is the gradient of a layer of few inputs,
    which takes a third to a sixth of the time then.
    """
    by_columns = a.stride(-2) == 1 and a.stride(-1) > 1
    return by_columns and b.stride(-1) == 1 and b.shape[-1] < a.shape[-2] and b.shape[-1] <= FEW_COLUMNS
