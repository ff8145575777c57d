"""Gradient steps as compiled functions."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from pgrun.compat.torch import compiles_loops
from pgrun.data.minibatches import Minibatches, Pick
from pgrun.data.types import Transition
from pgrun.optim.compiled import Compiled, Recorded, RecordedLoop
from pgrun.optim.functional import Metrics, Step, functional, functional_gradient, functional_gradients
from pgrun.optim.rules import Optimizer

Pieces = list[tuple[Tensor, dict[str, Tensor]]]  # of the parameters, each with its part of the optimizer's state


class CompiledStep(Protocol):
    """The functions of a gradient step, compiled; each one at its first call."""

    loops: bool  # whether it has `steps`

    def __init__(self, of: Step) -> None: ...

    @property
    def seconds(self) -> float:
        """Seconds that compiling has taken."""

    def prepare(self, *args: Any) -> tuple[Any, ...]:
        """Map a call's arguments to the loss's."""

    def gradient(self, *args: Any) -> tuple[Tensor, Metrics]:
        """Compute the gradient [P] at the loss's arguments, and the loss's metrics."""

    def step(self, rates: tuple[Tensor, ...], *args: Any) -> tuple[Tensor, Metrics]:
        """Take the whole step with the optimizer's `rates`; return the gradient's norm before the clip, and metrics.

        The gradient is stored nowhere.
        """

    def steps(
        self, rates: tuple[Tensor, ...], index: Tensor, samples: Minibatches, *args: Any
    ) -> tuple[Tensor, Metrics]:
        """Take a step on each minibatch, with its rates and its index; return what `step` returns of each, [n]."""


def move(of: Step, pieces: Pieces, gradients: list[Tensor], rates: tuple[Tensor, ...]) -> Tensor:
    """Clip the gradient and step, parameter by parameter; return its norm before the clip.

    It works on pieces, not on θ: in a joined gradient compiled code would tell the parts apart number by number.
    """
    optimizer, max_norm = of.optimizer, of.max_grad_norm
    assert isinstance(optimizer, Optimizer)
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    # a minimum, not a clamp: compiled code would take the quotient anew for each few numbers of the gradient
    factor = None if max_norm is None else torch.stack([max_norm / (norm + 1e-6), norm.new_ones(())]).amin()
    own, end = optimizer.own or slice(0, 0), 0
    for (theta, state), g in zip(pieces, gradients, strict=True):
        end += theta.numel()
        rate = rates[int(own.start < end <= own.stop)]
        optimizer.move(theta, g if factor is None else factor * g, state, rate)
    return norm


def pieces_of(of: Step) -> Pieces:
    """Return each parameter as a plain tensor in the same memory, with its part of the optimizer's state."""
    assert isinstance(of.optimizer, Optimizer)
    state = of.optimizer.pieces([p.numel() for p in of.parameters])
    return [
        (p.detach(), {key: x.view_as(p) for key, x in of_p.items()})
        for p, of_p in zip(of.parameters, state, strict=True)
    ]


class RecordedStep:
    """A gradient step on the CPU, recorded as it runs; see `Recorded`."""

    def __init__(self, of: Step) -> None:
        self.of, self.loops = of, compiles_loops()
        passed = (type(of), Recorded)
        roots = (of.owner, of.loss, of.prepare_args)
        self.prepare = Recorded(self._prepare, roots, passed)
        self.gradient = Recorded(self._gradient, roots, passed)
        self.step = Recorded(self._step, roots, passed)
        self.loop = RecordedLoop(self._step_on_part, roots, passed)
        # made before anything is recorded: tensors of their own there, no slices of θ
        state = [of_p for _, of_p in pieces_of(of)] if of.by_number else []
        self.pieces: Pieces = list(zip(of.parameters, state, strict=False))

    @property
    def seconds(self) -> float:
        """Seconds that compiling has taken."""
        return sum(x.seconds for x in (self.prepare, self.gradient, self.step, self.loop))

    def steps(
        self, rates: tuple[Tensor, ...], index: Tensor, samples: Minibatches, *args: Any
    ) -> tuple[Tensor, Metrics]:
        """Take a step on each minibatch in one program; see `CompiledStep`."""
        done: tuple[Tensor, Metrics] = self.loop((rates, index), samples.entire, samples.pick, samples.whole, *args)
        return done

    def _step_on_part(
        self, row: Any, entire: bool, pick: Pick, whole: Transition, *args: Any
    ) -> tuple[Tensor, Metrics]:
        rates, index = row
        return self._step(rates, whole if entire else pick(whole, index), *args)

    def _prepare(self, *args: Any) -> tuple[Any, ...]:
        return args if self.of.prepare_args is None else self.of.prepare_args(*args)

    def _gradient(self, *args: Any) -> tuple[Tensor, Metrics]:
        gradients, metrics = self._gradients(*args)
        return torch.cat([g.flatten() for g in gradients]), metrics

    def _gradients(self, *args: Any) -> tuple[list[Tensor], Metrics]:
        with torch.enable_grad():
            loss, metrics = self.of.loss(*args)
        wanted = self.of.parameters
        return list(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)), metrics

    def _step(self, rates: tuple[Tensor, ...], *args: Any) -> tuple[Tensor, Metrics]:
        gradients, metrics = self._gradients(*self._prepare(*args))
        return move(self.of, self.pieces, gradients, rates), metrics


class TracedStep:
    """A gradient step as torch's compiler traces it: on a GPU, or of unlike sizes; see `Compiled`."""

    loops = False

    def __init__(self, of: Step, before: float = 0.0) -> None:
        self.of, self.before = of, before

    @property
    def seconds(self) -> float:
        """Seconds that compiling has taken, with those of another way before."""
        return self.before + sum(x.seconds for x in vars(self).values() if isinstance(x, Compiled))

    def prepare(self, *args: Any) -> tuple[Any, ...]:
        """Map a call's arguments to the loss's; see `CompiledStep`."""
        prepared: tuple[Any, ...] = self._prepare(*args)
        return prepared

    def gradient(self, *args: Any) -> tuple[Tensor, Metrics]:
        """Compute gradient and metrics; see `CompiledStep`."""
        found: tuple[Tensor, Metrics] = self._gradient([p.detach() for p in self.of.parameters], *args)
        return found

    def steps(
        self, rates: tuple[Tensor, ...], index: Tensor, samples: Minibatches, *args: Any
    ) -> tuple[Tensor, Metrics]:
        """Take a step on each minibatch; see `CompiledStep`."""
        raise NotImplementedError

    def step(self, rates: tuple[Tensor, ...], *args: Any) -> tuple[Tensor, Metrics]:
        """Take the whole step; see `CompiledStep`."""
        done: tuple[Tensor, Metrics] = self._step(self._pieces, rates, *args)
        return done

    @cached_property
    def _prepare(self) -> Compiled:
        assert self.of.prepare_args is not None
        return Compiled(self.of.prepare_args)

    @cached_property
    def _gradient(self) -> Compiled:
        return Compiled(functional_gradient(self.of))

    @cached_property
    def _step(self) -> Compiled:
        of = self.of
        gradients_of = functional_gradients(of)
        prepare = None if of.prepare_args is None else functional(of, of.prepare_args)

        def step(pieces: Pieces, rates: tuple[Tensor, ...], *args: Any) -> tuple[Tensor, Metrics]:
            parameters = [theta for theta, _ in pieces]
            if prepare is not None:
                args = prepare(parameters, *args)
            gradients, metrics = gradients_of(parameters, *args)
            return move(of, pieces, gradients, rates), metrics

        return Compiled(step)

    @cached_property
    def _pieces(self) -> Pieces:
        return pieces_of(self.of)
