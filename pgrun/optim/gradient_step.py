"""The gradient step: gradient, clip, optimizer.

All parameters of one loss lie in one flat vector, of which the modules hold views; so do the gradients. One kernel
then clips, one updates, one averages over processes, one mixes into a target network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import cached_property
from itertools import accumulate
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from pgrun.compat.torch import backward
from pgrun.data.minibatches import Minibatches
from pgrun.errors import CantRecord, UserError
from pgrun.nn.modes import named, training, two_modes
from pgrun.optim.captured_step import CapturedStep
from pgrun.optim.compiled_step import CompiledStep, RecordedStep, TracedStep
from pgrun.optim.cuda_graphs import Graphs
from pgrun.optim.rules import Fisher, Optimizer
from pgrun.optim.vectors import clip, flatten_parameters

log = logging.getLogger("pgrun")

Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]

Module = TypeVar("Module", bound=nn.Module)


def slow_copy(module: Module) -> tuple[Module, Tensor]:
    """Copy a module, frozen, as a target network or an average policy; return it and its parameters as one vector [P].

    One lerp moves the vector towards the learned parameters. The module must be on its device.
    """
    copy = deepcopy(module).requires_grad_(False)
    return copy, flatten_parameters(copy.parameters())


class Exchange(Protocol):
    """The exchange of gradients between processes that learn together, in place of `GradientStep.descend` alone."""

    def step(self, step: GradientStep, *args: Any) -> Tensor:
        """Step along the gradient in `theta.grad`, by `descend` or in another process; return its norm unclipped."""

    def begin(self, step: GradientStep, progress: float) -> None:
        """Bring the parameters up to date as a rollout begins, at the run's progress in [0, 1]."""


def mean_metrics(results: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average each metric over several steps."""
    return {key: torch.stack([result[key] for result in results]).mean() for key in results[0]}


class GradientStep:
    """One step along one loss's gradient: gradient, clip, optimizer.

    `compile=true` compiles all of it as one, or gradient and loss alone where the optimizer's rule needs the whole
    vector or processes exchange their gradients.

    Args:
        owner: the module whose methods the loss calls; compiling swaps its parameters for functional ones.
        parameters: the parameters that the step changes.
        loss: returns a 0-dim loss and 0-dim metrics; it draws no random numbers (noise comes as an argument).
            Several processes weigh its gradient by the rows in its arguments: see `loss_rows`.
        optimizer: a factory, called with a list of one flat vector.
        max_grad_norm: clip the gradient's 2-norm to this; None leaves it.
        compile: trace it into one compiled function.
        name: the loss's name in metrics, `gradient/norm_<name>`; empty for an algorithm with one loss.
        learners: how many learn side by side, each with its row of the one parameter [learners, P]; each one's gradient
            is clipped by itself.
        fisher: maps the loss's arguments to log p(y|x) of draws y from the model itself, one a sample [...], and which
            samples are valid [...]: for rules that use the model's Fisher matrix. It may draw random numbers.
        prepare_args: maps a call's arguments to the loss's, without gradient (computes targets, for example); it draws
            no random numbers. None: they are the same.
        apart: neighbouring parameters that have a learning rate of their own, and that rate or its schedule.
    """

    def __init__(
        self,
        owner: nn.Module,
        parameters: Iterable[nn.Parameter],
        loss: Loss,
        optimizer: Callable[..., Any],
        *,
        max_grad_norm: float | None,
        compile: bool,
        name: str = "",
        fisher: Fisher | None = None,
        prepare_args: Callable[..., tuple[Any, ...]] | None = None,
        learners: int = 1,
        apart: tuple[Iterable[nn.Parameter], float | str] | None = None,
    ) -> None:
        self.learners, self.prepare_args = learners, prepare_args
        self.parameters = list(parameters)
        self.theta = flatten_parameters(self.parameters)
        self.loss = loss
        self.optimizer = optimizer([self.theta])
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.bind(self.parameters, fisher)
        if apart is not None:
            self.separate(*apart)
        self.max_grad_norm = max_grad_norm
        self.norm_key = "gradient/norm" + (f"_{name}" if name else "")
        self.watch: Callable[..., dict[str, Tensor]] | None = None  # of self and the arguments, returns more metrics
        self.exchange: Exchange | None = None  # with other processes
        self.metrics: dict[str, Tensor] = {}  # of the last call's loss
        self.compile = compile
        self.captured: CapturedStep | None = None  # where the run captures CUDA graphs
        self.owner = owner
        own_ids = {id(p) for p in self.parameters}
        learning = [child for child in owner.children() if any(id(p) in own_ids for p in child.parameters())]
        self.two_modes = [module for child in learning for module in two_modes(child)]
        if compile and self.two_modes:
            raise UserError(
                f"compile=true traces a network in one mode, and {named(self.two_modes)} has two: use compile=false"
            )

    def __call__(self, *args: Any) -> dict[str, Tensor]:
        """Take the step; return the loss's metrics and the gradient's norm before the clip."""
        more = {} if self.watch is None else self.watch(self, *self.prepared(*args))
        norm = self.take(*args)
        self.metrics[self.norm_key] = norm if self.learners == 1 else norm.mean()
        return self.metrics | more

    def give_up(self, why: CantRecord) -> None:
        """Go on with what torch's compiler traces, which takes it as far as it can."""
        name = self.norm_key.removeprefix("gradient/norm").replace("_", " of ")
        log.info("compile=true: the gradient step%s is traced, not recorded: %s", name, why)
        self.compiled = TracedStep(self, self.compiled.seconds)

    def run(self, name: str, *args: Any) -> Any:
        """Call one of the compiled functions; where it can't be recorded, the traced one with the same arguments."""
        try:
            return getattr(self.compiled, name)(*args)
        except CantRecord as why:
            self.give_up(why)
            return getattr(self.compiled, name)(*args)

    def capture(self, graphs: Graphs) -> None:
        """Capture the step's operations as graphs from here on, where they can be."""
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.keep_rates()
        self.captured = CapturedStep(self, graphs)

    @property
    def compiles(self) -> bool:
        """Whether compiled code runs now; a rehearsal has to see torch's own operations."""
        return self.compile and (self.captured is None or not self.captured.graphs.rehearsing)

    def take(self, *args: Any) -> Tensor:
        """Take the step, captured or compiled if it can be; return the gradient's norm before the clip, as `clip`."""
        if self.captured is not None and (done := self.captured.run("take", *args)) is not None:
            norm, self.metrics = done
            return cast(Tensor, norm)
        return self.taken(*args)

    def taken(self, *args: Any) -> Tensor:
        """Take the step, and capture nothing; see `take`."""
        if self.compiles and self.exchange is None and self.learners == 1 and self.by_number:
            assert isinstance(self.optimizer, Optimizer)
            norm, self.metrics = self.run("step", self.optimizer.rates(), *args)
            return cast(Tensor, norm)
        args = self.prepared(*args)
        self.metrics = self.differentiate(*args)
        return self.descend(*args) if self.exchange is None else self.exchange.step(self, *args)

    def each(self, samples: Minibatches, *args: Any) -> dict[str, Tensor]:
        """Take a step on each minibatch, with the same other arguments; return the means of what the steps return."""
        alone = self.watch is None and self.exchange is None and self.learners == 1
        if self.captured is not None and alone and samples.even and self.captured.able:
            index, pick = samples.index(), None if samples.entire else samples.pick
            metrics: dict[str, Tensor] | None = self.captured.run("each", index, pick, samples.whole, *args)
            return mean_metrics([self(samples.part(i), *args) for i in index]) if metrics is None else metrics
        if self.compiles and alone and self.by_number and samples.even and self.compiled.loops:
            assert isinstance(self.optimizer, Optimizer)
            index, rates = samples.index(), self.optimizer.rates_ahead(len(samples))
            try:
                norms, found = self.compiled.steps(rates, index, samples, *args)
                return {key: x.mean() for key, x in {**found, self.norm_key: norms}.items()}
            except CantRecord as why:
                self.give_up(why)
            one_by_one = zip(zip(*rates, strict=True), index, strict=True)
            done = [self.run("step", of, samples.part(i), *args) for of, i in one_by_one]
            return mean_metrics([{**metrics, self.norm_key: norm} for norm, metrics in done])
        return mean_metrics([self(sample, *args) for sample in samples])

    def separate(self, parameters: Iterable[nn.Parameter], lr: float | str) -> None:
        """Give some neighbouring parameters a learning rate of their own.

        Raises:
            UserError: the optimizer has one rate for all.
        """
        own = {id(p) for p in parameters}
        if not isinstance(self.optimizer, Optimizer):
            name = type(self.optimizer).__name__
            raise UserError(
                f"optimizer._target_: torch's {name} gets one vector and has one learning rate for it; for "
                "algo.critic_lr use optimizer=adam, adamw, rmsprop, sgd or kfac"
            )
        places = [i for i, p in enumerate(self.parameters) if id(p) in own]
        assert places == [*range(places[0], places[-1] + 1)]  # they are one part of θ
        ends = [0, *accumulate(p.numel() for p in self.parameters)]
        self.optimizer.separate(slice(ends[places[0]], ends[places[-1] + 1]), lr)

    def prepared(self, *args: Any) -> tuple[Any, ...]:
        """Map a call's arguments to the loss's."""
        if self.prepare_args is None:
            return args
        if self.compiles:
            prepared: tuple[Any, ...] = self.run("prepare", *args)
            return prepared
        with torch.no_grad():
            return self.prepare_args(*args)

    def differentiate(self, *args: Any) -> dict[str, Tensor]:
        """Compute the gradient at the loss's arguments, into `theta.grad`; return the loss's metrics."""
        grad = self.theta.grad
        assert grad is not None
        if self.compiles:
            gradient, metrics = self.run("gradient", *args)
            grad.copy_(gradient)
        elif self.captured is not None and self.captured.graphs.busy:
            with training(self.two_modes):
                value, metrics = self.loss(*args)
            # into new memory: what adds to `.grad` runs on the stream where it ran first
            pieces = torch.autograd.grad(value, self.parameters, allow_unused=True, materialize_grads=True)
            grad.copy_(torch.cat([g.flatten() for g in pieces]).view_as(grad))
        else:
            grad.zero_()
            with training(self.two_modes):
                value, metrics = self.loss(*args)
            backward(value, self.parameters)
        return metrics

    def descend(self, *args: Any) -> Tensor:
        """Clip the gradient of these arguments and step; return the norm before the clip, as `clip` does."""
        grad = self.theta.grad
        assert grad is not None
        norm = clip(grad, self.max_grad_norm, self.learners)
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.observe(*args)
        self.optimizer.step()
        return norm

    @property
    def compile_seconds(self) -> float:
        """Seconds that compiling and capturing have taken."""
        captured = self.captured.seconds if self.captured is not None else 0.0
        return captured + (self.compiled.seconds if "compiled" in vars(self) else 0.0)

    @cached_property
    def compiled(self) -> CompiledStep:
        """The step's compiled functions: recorded on a CPU, traced on a GPU."""
        kind: type[CompiledStep] = RecordedStep if self.theta.device.type == "cpu" else TracedStep
        return kind(self)

    @property
    def by_number(self) -> bool:
        """Whether the optimizer's rule can be applied piece by piece."""
        return isinstance(self.optimizer, Optimizer) and self.optimizer.by_number

    @property
    def rates(self) -> list[float]:
        """The learning rate at this point of the run, and that of the parameters which have their own."""
        if isinstance(self.optimizer, Optimizer):
            return self.optimizer.rates_now
        return [float(self.optimizer.param_groups[0]["lr"])]

    def set_progress(self, progress: float) -> None:
        """Give the run's progress in [0, 1] to the optimizer's schedule, before a rollout."""
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.set_progress(progress)
        if self.exchange is not None:
            self.exchange.begin(self, progress)
