"""torch's inside: fused Adam, bases of layers, trees of tensors, what the compiler keeps, what is dispatched."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.dropout import _DropoutNd as Dropout
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import flop_registry

fused_adam = torch._fused_adam_
fused_adamw = torch._fused_adamw_

__all__ = [
    "BatchNorm",
    "DispatchMode",
    "Dropout",
    "InstanceNorm",
    "compiler_cache",
    "flops_of",
    "fused_adam",
    "fused_adamw",
    "renamed_code",
    "tree_flatten",
    "tree_unflatten",
]


def compiler_cache() -> str:
    """Name the folder in which torch's compiler keeps what it compiled."""
    from torch._inductor.runtime.runtime_utils import cache_dir

    return str(cache_dir())


class DispatchMode(TorchDispatchMode):
    """Sees each operation of torch's in its block, and imports no compiler for that, which would take seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def flops_of(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """Count the multiplications and additions of a dispatched matrix product or convolution; None of anything else.

    Args:
        operation: what a DispatchMode is given.
        args: its arguments.
        kwargs: its arguments by name.
        result: its result.
    """
    count = flop_registry.get(operation._overloadpacket)
    return None if count is None else int(count(*args, **kwargs, out_val=result))


def renamed_code(function: Callable[..., Any], name: str) -> FunctionType:
    """Copy a function under another code name, so that torch's compiler counts it separately.

    The compiler knows code by its file, line and name. Two functions that one `def` made are the same code to it: it
    counts the compilations of both together, and gives a size that differs between them no fixed value.
    """
    code = function.__code__.replace(co_name=name)
    return FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
