"""Samples of a categorical distribution through which gradients pass.

Jang et al. 2017, https://arxiv.org/abs/1611.01144; Maddison et al. 2017, https://arxiv.org/abs/1611.00712.
Shapes: K choices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gumbel_like(x: Tensor) -> Tensor:
    """Draw standard Gumbel noise, −log E with E ~ Exp(1), in the shape of x."""
    return -torch.empty_like(x).exponential_().log()


def one_hot_max(x: Tensor) -> Tensor:
    """Return the one-hot of the largest of x [..., K].

    If x is logits plus Gumbel noise, that is a sample of softmax(logits).
    """
    return torch.zeros_like(x).scatter(-1, x.argmax(-1, keepdim=True), 1.0)


def gumbel_softmax(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Draw a one-hot sample of softmax(logits) whose gradient is that of softmax((logits + noise) / τ); all [..., K].

    This is the straight-through form: Jang et al. 2017, section 2.2.
    """
    z = logits + noise
    y = F.softmax(z / temperature, -1)
    return one_hot_max(z.detach()) + (y - y.detach())
