"""Layers with two modes: while a network learns, they compute something else than when it acts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from pgrun.compat.torch import BatchNorm, Dropout, InstanceNorm


def two_modes(network: nn.Module) -> list[nn.Module]:
    """Find the modules within that have two modes: dropout, batch normalisation and the like.

    So do modules of a user's own whose code reads `training`.
    """
    return [module for module in network.modules() if _has_two(module)]


def mixes_rows(module: nn.Module) -> bool:
    """Tell whether a row's output depends on the other rows of its batch."""
    return isinstance(module, BatchNorm)


def named(modules: list[nn.Module]) -> str:
    """List the modules' classes, each once."""
    return ", ".join(dict.fromkeys(type(module).__name__ for module in modules))


@contextmanager
def training(modules: list[nn.Module]) -> Iterator[None]:
    """Put these modules into training mode for the block."""
    for module in modules:
        module.training = True
    try:
        yield
    finally:
        for module in modules:
            module.training = False


def statistics(copy: nn.Module, module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Pair the running statistics of a slow copy's batch normalisation with those that they follow."""
    pairs = zip(two_modes(copy), two_modes(module), strict=True)
    buffers = [(a, b) for x, y in pairs for a, b in zip(x.buffers(), y.buffers(), strict=True)]
    return [(a, b) for a, b in buffers if a.is_floating_point()]


def _has_two(module: nn.Module) -> bool:
    if any(type(hook).__name__ == "SpectralNorm" for hook in module._forward_pre_hooks.values()):
        return True
    match module:
        case Dropout():
            return module.p > 0.0
        case nn.RNNBase():
            return module.dropout > 0.0 and module.num_layers > 1
        case nn.MultiheadAttention():
            return module.dropout > 0.0
        case InstanceNorm():
            return module.track_running_stats
    if isinstance(module, BatchNorm | nn.RReLU) or type(module).__name__ == "_SpectralNorm":
        return True
    return any(_asks(cls) for cls in type(module).__mro__ if not cls.__module__.startswith("torch."))


def _asks(cls: type) -> bool:
    """Tell whether a method of this class reads an attribute `training`: the names in its compiled code say so."""
    methods = (getattr(value, "__code__", None) for value in vars(cls).values())
    return any(code is not None and "training" in code.co_names for code in methods)
