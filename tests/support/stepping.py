"""A small regression whose gradient step the tests take."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pgrun.optim.gradient_step import GradientStep


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.unused = nn.Parameter(torch.ones(3))  # in the loss of nobody

    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        error = (self.body(x) - y).square().mean()
        return error, {"error": error.detach()}

    def step(self, optimizer: Callable[..., Any], **changes: Any) -> GradientStep:
        kwargs: dict[str, Any] = {"max_grad_norm": None, "compile": False, **changes}
        return GradientStep(self, self.body.parameters(), self.loss, optimizer, **kwargs)


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(16, 4, generator=g), 3.0 * torch.randn(16, 2, generator=g)
