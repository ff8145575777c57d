"""Optimizers: rules that turn the gradient of one flat vector into a step.

The rules are those of torch.optim, applied to one vector. torch.optim's own classes import torch's compiler when the
first is built (about a second) and take several times as long a step on small networks. Any torch.optim class may stand
in the config instead (`optimizer._target_=torch.optim.NAdam`, without a schedule).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from pgrun.compat.torch import fused_adam, fused_adamw
from pgrun.config.ranges import Decay, Falling, Fraction, NotNegative, Positive, Scheduled
from pgrun.core.schedules import Schedule
from pgrun.optim.upcoming import Upcoming

Fisher = Callable[..., tuple[Tensor, Tensor]]


class Optimizer:
    """A rule that turns the gradient of one flat vector [P] into a step; `state` holds its tensors.

    Attributes:
        lr: the learning rate now.
        factor: what the schedules' rates are multiplied by.
        own: the part of the vector that has a learning rate of its own; None: there is none.
        own_lr: that rate now.
        kept: the rates as 0-dim tensors on the vector's device, where captured code has to read them; else empty.
    """

    shareable = True  # whether several processes may step one vector with one state
    by_number: ClassVar[bool] = False  # whether `move` is the rule: no number's step depends on another's gradient

    def __init__(self, params: list[Tensor], *, lr: float | str, schedule: str) -> None:
        (self.theta,) = params
        self.rate, self.falling = Schedule(lr, schedule, setting="optimizer.schedule"), schedule
        self.factor = 1.0
        self.own: slice | None = None
        self.own_rate = self.rate
        self.lr = self.own_lr = self.rate(0.0)
        self.state: dict[str, Tensor] = {}
        self.kept: list[Tensor] = []
        self.upcoming = Upcoming(self.rates_of)

    def keep_rates(self) -> None:
        """Keep the learning rates as tensors from here on, so that captured code sees them change."""
        self.kept = [torch.tensor(lr, device=self.theta.device) for lr in self.rates_now]

    def separate(self, place: slice, lr: float | str) -> None:
        """Give a part of the vector a learning rate of its own; `schedule` holds for both."""
        self.own, self.own_rate = place, Schedule(lr, self.falling, setting="optimizer.schedule")
        self.own_lr = self.own_rate(0.0)

    @property
    def rates_now(self) -> list[float]:
        """The learning rate, and that of the part which has its own."""
        return [self.lr] if self.own is None else [self.lr, self.own_lr]

    def parts(self) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor], Any]]:
        """Yield the pieces of the vector that have one learning rate: each, its gradient, its state, and the rate.

        The rate is a number, or a 0-dim tensor where rates are kept.
        """
        rates: list[Any] = self.kept or self.rates_now
        if self.own is None:
            yield self.theta, self.grad, self.state, rates[0]
            return
        start, stop = self.own.start, self.own.stop
        for place, lr in ((slice(start), rates[0]), (self.own, rates[1]), (slice(stop, None), rates[0])):
            state = {key: x[place] if x.shape == self.theta.shape else x for key, x in self.state.items()}
            if len(theta := self.theta[place]):
                yield theta, self.grad[place], state, lr

    def set_progress(self, progress: float) -> None:
        """Follow the schedules; progress in [0, 1]."""
        self.lr, self.own_lr = self.factor * self.rate(progress), self.factor * self.own_rate(progress)
        for kept, lr in zip(self.kept, self.rates_now, strict=False):
            kept.fill_(lr)

    def bind(self, parameters: Sequence[Tensor], fisher: Fisher | None) -> None:
        """Take the parameters in the vector and the likelihood of the model's outputs; most rules need neither."""

    def observe(self, *args: Any) -> None:
        """Look at the loss's arguments before the step; most rules need only the gradient."""

    def step(self) -> None:
        """Update the vector in place from its `.grad`."""
        raise NotImplementedError

    def rates(self) -> tuple[Tensor, ...]:
        """Return the numbers that change from one step by `move` to the next, apart from the state, for each rate."""
        return tuple(self.kept or self.upcoming(0, self.rates_now))

    def rates_of(self, first: int, n: int) -> tuple[Tensor, ...]:
        """Return `rates` of n steps, [n, ...] for each rate, given the number of the first."""
        return tuple(torch.full((n,), lr, device=self.theta.device) for lr in self.rates_now)

    def rates_ahead(self, n: int) -> tuple[Tensor, ...]:
        """Return `rates` of each of the next n steps, [n, ...] for each rate."""
        return tuple(map(torch.stack, zip(*(self.rates() for _ in range(n)), strict=True)))

    def move(self, theta: Tensor, grad: Tensor, state: dict[str, Tensor], rates: Tensor) -> None:
        """Apply the rule to a piece of the vector, with its pieces of gradient and state.

        The compiler joins it with the code that computes the gradient.
        """
        raise NotImplementedError

    def pieces(self, sizes: list[int]) -> list[dict[str, Tensor]]:
        """Return the state of each piece of the vector, as views."""
        flat = {key: x.split(sizes) for key, x in self.state.items() if x.shape == self.theta.shape}
        return [{key: parts[i] for key, parts in flat.items()} for i in range(len(sizes))]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors."""
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state, on this vector's device."""
        for key, value in self.state.items():
            value.copy_(state[key])

    @property
    def grad(self) -> Tensor:
        """The gradient [P]."""
        grad = self.theta.grad
        assert grad is not None
        return grad


class Adam(Optimizer):
    """Adam: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980; `decoupled` is AdamW, https://arxiv.org/abs/1711.05101.

    Args:
        lr: α, the learning rate.
        schedule: how the learning rate falls over the run, down to 0 unless constant.
        betas: β₁ and β₂, of the running means of gradients and of their squares.
        eps: ε, against division by zero.
        weight_decay: how much parameters are pulled towards zero.
        decoupled: AdamW's weight decay: off the parameters, not through the gradient.
    """

    by_number = True

    def __init__(
        self,
        params: list[Tensor],
        *,
        lr: Scheduled[Positive],
        schedule: Falling,
        betas: tuple[Decay, Decay],
        eps: Positive,
        weight_decay: NotNegative,
        decoupled: bool,
    ) -> None:
        super().__init__(params, lr=lr, schedule=schedule)
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay
        self.decoupled = decoupled
        self.kernel = fused_adamw if decoupled else fused_adam
        self.state = {
            "m": torch.zeros_like(self.theta),
            "v": torch.zeros_like(self.theta),
            "t": torch.zeros((), device=self.theta.device),
        }
        constant = partial(torch.tensor, dtype=torch.float64, device=self.theta.device)  # for `rates`
        self._beta, self._power = constant([0.0, *self.betas]), constant([-1.0, -1.0, -0.5])

    def step(self) -> None:
        """Update the vector by a fused kernel; see `Optimizer.step`."""
        beta1, beta2 = self.betas
        t = self.state["t"]
        t += 1
        for theta, grad, state, lr in self.parts():
            more: dict[str, Any] = {"weight_decay": self.weight_decay, "eps": self.eps, "beta1": beta1, "beta2": beta2}
            m, v = state["m"], state["v"]
            self.kernel([theta], [grad], [m], [v], [], [t], lr=lr, amsgrad=False, maximize=False, **more)

    def rates(self) -> tuple[Tensor, ...]:
        """Return α, α/(1 − β₁ᵗ) and 1/√(1 − β₂ᵗ), [3], for each learning rate α.

        In `move`, compiled code would take the powers anew for each number.
        """
        t = self.state["t"]
        t += 1
        if not self.kept and t.device.type == "cpu":  # quicker by Python's numbers
            return self.upcoming(int(t), self.rates_now)
        powers = torch.rsub(self._beta**t, 1.0).pow_(self._power)
        return tuple(torch.cat([powers[:2] * lr, powers[2:]]).float() for lr in self.kept or self.rates_now)

    def rates_ahead(self, n: int) -> tuple[Tensor, ...]:
        """Return the rates of the next n steps; see `Optimizer.rates_ahead`."""
        t = self.state["t"]
        if self.kept or t.device.type != "cpu":
            return super().rates_ahead(n)
        t += n
        return self.rates_of(int(t) - n + 1, n)

    def rates_of(self, first: int, n: int) -> tuple[Tensor, ...]:
        """Return the rates of n steps; see `Optimizer.rates_of`."""
        steps = range(first, first + n)
        return tuple(torch.tensor([self.corrected(lr, t) for t in steps]) for lr in self.rates_now)

    def corrected(self, lr: float, t: int) -> tuple[float, float, float]:
        """Return what `rates` has of the learning rate α in the step t."""
        first, second = (1.0 - beta**t for beta in self.betas)
        return lr, lr / first, second**-0.5

    def move(self, theta: Tensor, grad: Tensor, state: dict[str, Tensor], rates: Tensor) -> None:
        """Update a piece; see `Optimizer.move`."""
        alpha, alpha_t, scale_t = rates.unbind()
        if self.weight_decay and self.decoupled:
            theta.mul_(1.0 - alpha * self.weight_decay)
        elif self.weight_decay:
            grad = grad + self.weight_decay * theta
        m = state["m"].lerp_(grad, 1.0 - self.betas[0])
        v = state["v"].mul_(self.betas[1]).addcmul_(grad, grad, value=1.0 - self.betas[1])
        theta.sub_(alpha_t * m / (v.sqrt() * scale_t + self.eps))


class RMSprop(Optimizer):
    """RMSprop: θ ← θ − α g / √(v + ε) with v ← βv + (1 − β)g².

    ε is inside the root, as Mnih et al. 2016 and TensorFlow have it.

    Args:
        alpha: β, the decay of the running mean of squared gradients.
        eps: ε, against division by zero.
        initial_square: v before the first step. 0 is torch's rule. TensorFlow's is 1: where gradients are much smaller
            than 1, steps stay as much smaller until v has forgotten it.
        lr: α, the learning rate.
        schedule: how the learning rate falls over the run, down to 0 unless constant.
    """

    by_number = True

    def __init__(
        self,
        params: list[Tensor],
        *,
        lr: Scheduled[Positive],
        schedule: Falling,
        alpha: Fraction,
        eps: Positive,
        initial_square: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, schedule=schedule)
        self.alpha, self.eps = alpha, eps
        self.state = {"v": torch.full_like(self.theta, initial_square)}

    def step(self) -> None:
        """Update the vector; see `Optimizer.step`."""
        for theta, g, state, lr in self.parts():
            v = state["v"].mul_(self.alpha).addcmul_(g, g, value=1.0 - self.alpha)
            step_by(theta, lr, g, (v + self.eps).sqrt_())

    def move(self, theta: Tensor, grad: Tensor, state: dict[str, Tensor], rates: Tensor) -> None:
        """Update a piece; see `Optimizer.move`."""
        v = state["v"].mul_(self.alpha).addcmul_(grad, grad, value=1.0 - self.alpha)
        theta.sub_(rates * grad / (v + self.eps).sqrt())


class SGD(Optimizer):
    """Stochastic gradient descent with heavy-ball momentum: b ← μb + g, θ ← θ − α b.

    Args:
        lr: α, the learning rate.
        schedule: how the learning rate falls over the run, down to 0 unless constant.
        momentum: μ, the share of the last step that is taken again.
    """

    by_number = True

    def __init__(self, params: list[Tensor], *, lr: Scheduled[Positive], schedule: Falling, momentum: Decay) -> None:
        super().__init__(params, lr=lr, schedule=schedule)
        self.momentum = momentum
        self.state = {"b": torch.zeros_like(self.theta)}

    def step(self) -> None:
        """Update the vector; see `Optimizer.step`."""
        for theta, grad, state, lr in self.parts():
            step_by(theta, lr, state["b"].mul_(self.momentum).add_(grad))

    def move(self, theta: Tensor, grad: Tensor, state: dict[str, Tensor], rates: Tensor) -> None:
        """Update a piece; see `Optimizer.move`."""
        theta.sub_(rates * state["b"].mul_(self.momentum).add_(grad))


def step_by(theta: Tensor, lr: float | Tensor, direction: Tensor, over: Tensor | None = None) -> None:
    """Subtract lr · direction, or lr · direction / over, from θ in place."""
    if isinstance(lr, Tensor):
        theta.sub_(lr * direction if over is None else lr * direction / over)
    elif over is None:
        theta.add_(direction, alpha=-lr)
    else:
        theta.addcdiv_(direction, over, value=-lr)
