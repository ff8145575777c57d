"""torch's inside: the fused Adam kernels, bases of layers, trees of tensors, the compiler's cache."""

from __future__ import annotations

import torch
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
    "compiler_cache",
    "fused_adam",
    "fused_adamw",
    "tree_flatten",
    "tree_unflatten",
]


def compiler_cache() -> str:
    """Name the folder in which torch's compiler keeps what it compiled."""
    from torch._inductor.runtime.runtime_utils import cache_dir

    return str(cache_dir())
