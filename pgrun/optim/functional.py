"""Gradient steps as functions of their parameters, for transformations that need functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Metrics = dict[str, Tensor]


class Step(Protocol):
    """A gradient step, as far as its functions need it; see `GradientStep`."""

    owner: nn.Module
    parameters: list[nn.Parameter]
    loss: Callable[..., tuple[Tensor, Metrics]]
    prepare_args: Callable[..., tuple[Any, ...]] | None
    optimizer: Any
    max_grad_norm: float | None
    norm_key: str

    @property
    def by_number(self) -> bool:
        """Whether the optimizer's rule can be applied piece by piece."""


def functional_gradient(step: Step) -> Callable[..., tuple[Tensor, Metrics]]:
    """Make gradient [P] and metrics a function of the parameters (a list, in order) and the loss's arguments."""
    gradients_of = functional_gradients(step)

    def gradient(parameters: list[Tensor], *args: Any) -> tuple[Tensor, Metrics]:
        parts, metrics = gradients_of(parameters, *args)
        return torch.cat([g.flatten() for g in parts]), metrics

    return gradient


def functional_gradients(step: Step) -> Callable[..., tuple[list[Tensor], Metrics]]:
    """Make each parameter's gradient, and the metrics, a function of the parameters and the loss's arguments.

    Not by θ: the gradient through each slice would be a sum over all of θ.
    """
    return torch.func.grad(functional(step, step.loss), has_aux=True)


def functional(step: Step, method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method of a step's owner a function of the parameters (a list, in order) and the method's arguments."""
    places = {id(p): i for i, p in enumerate(step.parameters)}
    # each module once: one that two paths reach, functional_call would swap twice, and not back
    layout = [
        (".".join(filter(None, ("owner", path, name))), places[id(p)])
        for path, module in step.owner.named_modules()
        for name, p in module._parameters.items()
        if id(p) in places
    ]
    module = _Call(step.owner, method)

    def function(parameters: list[Tensor], *args: Any) -> Any:
        swapped = {name: parameters[i] for name, i in layout}
        return torch.func.functional_call(module, swapped, args, tie_weights=False)

    return function


class _Call(nn.Module):
    """A method as a module, so that functional_call can swap its owner's parameters."""

    def __init__(self, owner: nn.Module, method: Callable[..., Any]) -> None:
        super().__init__()
        self.owner = owner
        self.method = method

    def forward(self, *args: Any) -> Any:
        """Call the method."""
        return self.method(*args)
