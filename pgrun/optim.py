"""Optimizers: rules that turn the gradient of one flat vector into a step.

The rules below are torch.optim's, on that one vector: torch.optim's own classes import torch's compiler when the first
is built (about a second) and take several times as long a step on small networks. Any torch.optim class may stand in
the config instead (`optimizer._target_=torch.optim.NAdam`, without a schedule).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pgrun.core.schedules import SCHEDULES
from pgrun.errors import UserError

Fisher = Callable[..., tuple[Tensor, Tensor]]


class Optimizer:
    """A rule that turns the gradient of one flat vector [P] into a step. Its state is the tensors in `state`."""

    shareable = True  # whether several processes may step one vector with one state

    def __init__(self, params: list[Tensor], *, lr: float, schedule: str) -> None:
        if schedule not in SCHEDULES:
            raise UserError(f"optimizer.schedule={schedule} is not known; choose one of {', '.join(SCHEDULES)}")
        (self.theta,) = params
        self.base_lr, self.lr, self.factor = lr, lr, SCHEDULES[schedule]
        self.state: dict[str, Tensor] = {}

    def set_progress(self, progress: float) -> None:
        """Follow the schedule; progress in [0, 1]."""
        self.lr = self.base_lr * self.factor(progress)

    def bind(self, parameters: Sequence[Tensor], fisher: Fisher | None) -> None:
        """Learn what the vector is made of, and the likelihood of the model's outputs; most rules ask for neither."""

    def observe(self, *args: Any) -> None:
        """See the loss's arguments before the step; most rules look at the gradient alone."""

    def step(self) -> None:
        """Update the vector in place from its `.grad`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors."""
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a state back, on this vector's device."""
        for key, value in self.state.items():
            value.copy_(state[key])

    @property
    def grad(self) -> Tensor:
        """The gradient [P]."""
        grad = self.theta.grad
        assert grad is not None
        return grad


class Adam(Optimizer):
    """Kingma & Ba 2015, https://arxiv.org/abs/1412.6980; `decoupled` is AdamW, https://arxiv.org/abs/1711.05101."""

    def __init__(
        self,
        params: list[Tensor],
        *,
        lr: float,
        schedule: str,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> None:
        super().__init__(params, lr=lr, schedule=schedule)
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay
        self.kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
        self.state = {
            "m": torch.zeros_like(self.theta),
            "v": torch.zeros_like(self.theta),
            "t": torch.zeros((), device=self.theta.device),
        }

    def step(self) -> None:
        m, v, t = self.state["m"], self.state["v"], self.state["t"]
        t += 1
        self.kernel(
            [self.theta],
            [self.grad],
            [m],
            [v],
            [],
            [t],
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )


class RMSprop(Optimizer):
    """θ ← θ − α g / √(v + ε) with v ← βv + (1 − β)g²; ε inside the root, as Mnih et al. 2016 and TensorFlow have it."""

    def __init__(self, params: list[Tensor], *, lr: float, schedule: str, alpha: float, eps: float) -> None:
        super().__init__(params, lr=lr, schedule=schedule)
        self.alpha, self.eps = alpha, eps
        self.state = {"v": torch.ones_like(self.theta)}  # ones, so that the first steps are small, not huge

    def step(self) -> None:
        g, v = self.grad, self.state["v"]
        v.mul_(self.alpha).addcmul_(g, g, value=1.0 - self.alpha)
        self.theta.addcdiv_(g, (v + self.eps).sqrt_(), value=-self.lr)


class SGD(Optimizer):
    """Stochastic gradient descent with heavy-ball momentum: b ← μb + g, θ ← θ − α b."""

    def __init__(self, params: list[Tensor], *, lr: float, schedule: str, momentum: float) -> None:
        super().__init__(params, lr=lr, schedule=schedule)
        self.momentum = momentum
        self.state = {"b": torch.zeros_like(self.theta)}

    def step(self) -> None:
        b = self.state["b"].mul_(self.momentum).add_(self.grad)
        self.theta.add_(b, alpha=-self.lr)
