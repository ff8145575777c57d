"""Rows of a replay, and Q functions worked out by hand: what tests of off-policy algorithms share."""

from typing import Any

import torch
from torch import Tensor

from pgrun.data.types import Transition


def batch(m: int = 16) -> Transition:
    """Rows with ends, and with successors that are other states."""
    torch.manual_seed(0)
    return Transition(
        obs=torch.randn(m, 3),
        action=torch.rand(m, 1) * 2.0 - 1.0,
        reward=torch.randn(m),
        discount=(torch.arange(m) % 3 > 0).float() * 0.7,  # 0 at an end; a replay's n steps make it less than 1
        next_obs=torch.randn(m, 3),
        last=torch.zeros(m, dtype=torch.bool),
        valid=torch.ones(m, dtype=torch.bool),
        extras={},
    )


def q_value(q: Any, i: int, obs: Tensor, action: Tensor) -> float:
    """Q_i(s, a) of one state and action, a layer at a time."""
    x = torch.cat([obs, action])
    for weight, bias in zip(q.weights[:-1], q.biases[:-1], strict=True):
        x = (x @ weight[i] + bias[i, 0]).clamp(min=0.0)
    return float(x @ q.weights[-1][i, :, 0] + q.biases[-1][i, 0, 0])
