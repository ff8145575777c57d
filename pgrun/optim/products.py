"""Matrix products, in the order in which a CPU is quicker at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

FEW_COLUMNS = 32  # with more, both orders take equally long


def turns(name: Any, args: tuple[Any, ...]) -> bool:
    """Tell whether an operation is a product AB that is quicker as (BᵀAᵀ)ᵀ.

    It is where A is stored by columns, B by rows, and B has few columns: so is the gradient of a layer of few inputs,
    which takes a third to a sixth of the time then.

    Args:
        name: torch's operator.
        args: its arguments.
    """
    if name not in (aten.mm.default, aten.bmm.default):
        return False
    a, b = args
    by_columns = a.stride(-2) == 1 and a.stride(-1) > 1
    return bool(by_columns and b.stride(-1) == 1 and b.shape[-1] < a.shape[-2] and b.shape[-1] <= FEW_COLUMNS)


def turned(do: Callable[..., Any], name: Any, args: tuple[Any, ...]) -> Tensor:
    """Compute AB as (BᵀAᵀ)ᵀ.

    Args:
        do: makes an operation, given torch's operator and its arguments.
        name: the product's operator.
        args: A [..., m, k] and B [..., k, n].

    Returns:
        AB [..., m, n], stored by columns.
    """
    a, b = (do(aten.transpose.int, (x, -2, -1)) for x in args)
    product: Tensor = do(aten.transpose.int, (do(name, (b, a)), -2, -1))
    return product
