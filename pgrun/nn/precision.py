"""Precision of the products between hidden layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

Product = Callable[..., Tensor]


def set_matmul_precision(precision: str, device: torch.device | str = "cpu") -> None:
    """Set torch's precision of this process's matrix products.

    Args:
        precision: `highest`, `high` and `medium` are torch.set_float32_matmul_precision's. `exact` is medium where that
            rounds no more than highest does (it is oneDNN's float32 there), else highest. With `bfloat16` torch stays
            at highest, and networks round by themselves: see `hidden_product`.
        device: where the products are computed.
    """
    if precision == "exact":
        precision = "medium" if torch.device(device).type == "cpu" and not medium_rounds() else "highest"
    torch.set_float32_matmul_precision("highest" if precision == "bfloat16" else precision)


@cache
def medium_rounds() -> bool:
    """Whether medium rounds products on this CPU, as it does where the CPU has units for bfloat16 matrices.

    It tries, since torch does not tell. On other CPUs medium is another library's float32.
    """
    n, before = 256, torch.get_float32_matmul_precision()
    x = torch.rand(n, n, generator=torch.Generator().manual_seed(0)) - 0.5  # not the run's own generator
    products = []
    for precision in ("medium", "highest"):
        torch.set_float32_matmul_precision(precision)
        products.append(x @ x)
    torch.set_float32_matmul_precision(before)
    error = (products[0] - products[1]).abs().max() / products[1].abs().max()
    return float(error) > 1e-5  # 6e-7 between two float32 libraries; TF32 2e-4, bfloat16 2e-3


@contextmanager
def in_full(module: nn.Module) -> Iterator[None]:
    """Switch the rounding to bfloat16 off in a module's layers, inside this block."""
    rounding = [layer for layer in module.modules() if getattr(layer, "rounds", False)]
    for layer in rounding:
        layer.rounds = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in rounding:
            layer.rounds = True  # type: ignore[assignment]


def hidden_product(product: Product, rounds: bool) -> Product:
    """Return the product (F.linear, bmm, …) to use between hidden layers: as given, or rounding to bfloat16.

    If it rounds, the factors are rounded, and so are the product and these layers' gradients. Parameters and optimizer
    stay in float32; observations, actions and a network's outputs keep their digits (mixed precision: Micikevicius et
    al. 2018, https://arxiv.org/abs/1710.03740).
    """
    return partial(_rounded, product) if rounds else product


def _rounded(product: Product, *args: Tensor) -> Tensor:
    """Multiply copies rounded to bfloat16's 8 digits, sum (in float32 on a CPU) and round again; return float32."""
    return product(*(x.bfloat16() for x in args)).float()
