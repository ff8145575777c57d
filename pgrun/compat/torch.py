"""torch's inside: Adam's fused kernels, the engine of gradients, bases of layers, trees of tensors, compiled code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.dropout import _DropoutNd as Dropout
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm
from torch.utils._pytree import tree_flatten, tree_unflatten

fused_adam = torch._fused_adam_
fused_adamw = torch._fused_adamw_

__all__ = [
    "BatchNorm",
    "Dropout",
    "InstanceNorm",
    "backward",
    "compiler_cache",
    "fused_adam",
    "fused_adamw",
    "renamed_code",
    "tree_flatten",
    "tree_unflatten",
]


def backward(loss: Tensor, parameters: Sequence[Tensor]) -> None:
    """Add a 0-dim loss's gradient to these parameters' `.grad`, as `loss.backward(inputs=parameters)` does.

    On a CPU it calls the engine itself: what `Tensor.backward` does around that takes as long as ten small kernels.
    """
    if not loss.is_cpu:
        loss.backward(inputs=parameters)
        return
    engine: Any = torch.autograd.Variable._execution_engine
    # of one loss, with gradient 1: keep no graph, create none, pass by what the loss doesn't reach, add to .grad
    engine.run_backward((loss,), (loss.new_ones(()),), False, False, tuple(parameters), True, True)


def compiler_cache() -> str:
    """Name the folder in which torch's compiler keeps what it compiled."""
    from torch._inductor.runtime.runtime_utils import cache_dir

    return str(cache_dir())


def renamed_code(function: Callable[..., Any], name: str) -> FunctionType:
    """Copy a function under another code name, so that torch's compiler counts it separately.

    The compiler knows code by its file, line and name. Two functions that one `def` made are the same code to it: it
    counts the compilations of both together, and gives a size that differs between them no fixed value.
    """
    code = function.__code__.replace(co_name=name)
    return FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
