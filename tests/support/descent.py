"""A step of plain gradient descent on a critic's squared error, written out."""

import torch
from torch import Tensor, nn

from pgrun.data.types import Transition

PLAIN = ("optimizer=sgd", "optimizer.lr=0.1", "algo.max_grad_norm=null")


def descended(q: nn.Module, batch: Transition, y: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Fit Q functions to y with the overrides PLAIN: the loss Σ_i ½ mean (Q_i − y)², and each parameter after it."""
    parameters = list(q.parameters())
    with torch.enable_grad():
        loss = 0.5 * (q(batch.obs, batch.action) - y).square().mean(-1).sum()
        gradient = torch.autograd.grad(loss, parameters)
    return loss.detach(), [p.detach() - 0.1 * g for p, g in zip(parameters, gradient, strict=True)]
