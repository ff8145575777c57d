"""Parameters and gradients as one flat vector."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def flatten_parameters(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Move the parameters into one new vector [P], and make each a view of it; gradients likewise."""
    parameters = list(parameters)
    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    flat.grad = torch.zeros_like(flat)
    offset = 0
    for p in parameters:
        n = p.numel()
        p.data = flat[offset : offset + n].view(p.shape)
        p.grad = flat.grad[offset : offset + n].view(p.shape)
        offset += n
    return flat


def clip(grad: Tensor, max_norm: float | None, learners: int = 1) -> Tensor:
    """Clip a gradient [P] in place, or each row of [learners, P] laid flat; None clips nothing.

    Return the norm before, 0-dim or [learners, 1].
    """
    rows = grad if learners == 1 else grad.view(learners, -1)
    norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=learners > 1)
    if max_norm is not None:
        rows.mul_((max_norm / (norm + 1e-6)).clamp_(max=1.0))
    return norm
