"""Diagnostics of a run: how noisy its gradient is, and how far each update moves the policy.

They don't change the run, and cost nothing unless the config asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.algos.parts.scores import trajectory_gradients, where_episodes_are
from pgrun.compat.torch import tree_flatten, tree_unflatten
from pgrun.core import ranks
from pgrun.core.baselines import optimal_of_others
from pgrun.core.normalization import normalize
from pgrun.data.types import Transition, loss_rows, map_transition, mean_over_ranks
from pgrun.errors import UserError
from pgrun.loop.train import Update
from pgrun.nn.distributions import Distribution
from pgrun.nn.normalize import RunningNorm
from pgrun.optim.functional import functional_gradient
from pgrun.optim.gradient_step import GradientStep

PIECES = 64  # the most pieces that a batch of rows is cut into


def diagnosed(algorithm: Algorithm, *, gradient_variance: bool, step_size: bool, num_envs: int) -> Update:
    """Return an algorithm's update, within `Diagnosed` if the config asks for any diagnostics.

    Args:
        algorithm: the algorithm that learns.
        gradient_variance: measure the gradient's noise.
        step_size: measure how far each update moves the policy.
        num_envs: environments of the run.

    Raises:
        UserError: there is nothing to measure.
    """
    if not gradient_variance and not step_size:
        return algorithm.update
    return Diagnosed(algorithm, gradient_variance=gradient_variance, step_size=step_size, num_envs=num_envs)


class Diagnosed:
    """An algorithm's update that returns more metrics. The algorithm stays as it is, but for its steps' `watch`.

    Args:
        algorithm: the algorithm whose `update` is called.
        gradient_variance: add `gradient/variance` and `gradient/snr`, see `noise`. For an on-policy algorithm they are
            those of the policy gradient Σ_t Ψ_t ∇log π(a_t|s_t), over episodes (over environments where rollouts have a
            fixed length), before the update's first step. For any other they are those of every gradient step, over
            rows; where there are several steps, the names end in `_<name>`.
        step_size: add `step/norm`, the length of θ_new − θ_old, and for an on-policy algorithm `policy/kl_step`,
            KL(π_old‖π_new) at the rollout's observations.
        num_envs: environments of the run.

    Raises:
        UserError: there is nothing to measure.
    """

    def __init__(self, algorithm: Algorithm, *, gradient_variance: bool, step_size: bool, num_envs: int) -> None:
        if not isinstance(algorithm, Algorithm) or not (algorithm.steps() or isinstance(algorithm, OnPolicy)):
            name = type(algorithm).__name__
            raise UserError(f"diagnostics measure gradient steps, and {name} takes none that they know")
        self.algorithm, self.step_size = algorithm, step_size
        self.on_policy: OnPolicy | None = None  # the algorithm whose policy gradient is measured
        if gradient_variance and isinstance(algorithm, OnPolicy):
            if not algorithm.whole_episodes and num_envs < 2:
                more = "give it env.num_envs=2 or more"
                raise UserError(f"diagnostics.gradient_variance=true compares environments: {more}")
            self.on_policy = algorithm
        elif gradient_variance:
            if algorithm.recurrent:
                raise UserError(
                    "diagnostics.gradient_variance=true measures a replay's steps one by one, and a network with a "
                    "memory learns from sequences of them: use diagnostics.gradient_variance=false"
                )
            for step in algorithm.steps().values():
                step.watch = step_noise  # each step then adds the metrics to its own

    def __call__(self, batch: Transition) -> dict[str, Tensor]:
        """Update the algorithm, and measure before and after."""
        gradient_metrics = {} if self.on_policy is None else noise(policy_gradients(self.on_policy, batch))
        before = Before(self.algorithm, batch) if self.step_size else None
        metrics = self.algorithm.update(batch)
        return {**metrics, **gradient_metrics, **(before.moved(batch) if before else {})}


def noise(parts: Tensor, suffix: str = "") -> dict[str, Tensor]:
    """Measure the noise of a gradient, given n independent contributions to it.

    Args:
        parts: [n, P], contributions whose sum is the gradient; those of other ranks are added.
        suffix: appended to the metrics' names.

    Returns:
        `gradient/variance`, the trace of the covariance of the sum, and `gradient/snr`, the squared length of the sum
        over that trace. The squared length includes the noise.
    """
    n, total = ranks.total_count(len(parts)), ranks.total(parts.sum(0))
    variance = ranks.total((parts - total / n).square().sum()) * (n / (n - 1.0))
    snr = total.square().sum() / variance.clamp(min=1e-20)
    return {f"gradient/variance{suffix}": variance, f"gradient/snr{suffix}": snr}


def policy_gradients(algorithm: OnPolicy, batch: Transition) -> Tensor:
    """Compute the share of each episode (or environment) in the mean of Ψ_t ∇log π(a_t|s_t) over a rollout; [n, P]."""
    with untouched(algorithm):
        batch = algorithm.estimate(algorithm.prepared(batch))
    psi, factor = batch.extras["psi"], algorithm.factor(batch)
    batch = batch._replace(extras={key: batch.extras[key] for key in ("carry",) if key in batch.extras})
    if getattr(algorithm, "normalize_advantage", False):
        psi = normalize(psi, batch.valid)
    if algorithm.whole_episodes:
        row, column, there = where_episodes_are(batch)
        psi, factor = psi[row, column], factor[row, column]
        batch = map_transition(lambda x: x[row, column], batch)._replace(valid=there)
    weight = batch.valid.to(psi.dtype)
    if not algorithm.baseline.per_parameter:
        parts = trajectory_gradients(algorithm.model, batch, psi * weight)[:, 0]
    else:
        g, g_hat = trajectory_gradients(algorithm.model, batch, factor * weight, psi * weight).unbind(1)
        parts = g_hat - optimal_of_others(g, g_hat, True) * g
    return parts / ranks.total(weight.sum())


def step_noise(step: GradientStep, *args: Any) -> dict[str, Tensor]:
    """Measure the noise of a gradient step over pieces of its batch; {} where the loss has no batch."""
    pieces, dim = batch_size(args)
    n = min(pieces, PIECES)
    if n < 2:
        return {}
    gradient_of, parameters = functional_gradient(step), [p.detach() for p in step.parameters]
    leaves, form = tree_flatten(args)
    cut = {i: along for i, x in enumerate(leaves) if (along := where_rows_are(x, pieces, dim)) is not None}
    k = pieces // n  # rows a piece; the remainder is left out
    parts = [leaves[i].narrow(at, 0, n * k).unflatten(at, (n, k)).movedim(at, 0) for i, at in cut.items()]

    def arguments(piece: tuple[Tensor, ...]) -> Any:
        whole = list(leaves)
        for i, x in zip(cut, piece, strict=True):
            whole[i] = x
        return tree_unflatten(whole, form)

    def gradient(*piece: Tensor) -> Tensor:
        return gradient_of(parameters, *arguments(piece))[0]

    def rows(*piece: Tensor) -> Tensor:
        return loss_rows(arguments(piece), step.theta)

    weight = torch.func.vmap(rows)(*parts).to(step.theta.dtype)
    weight = weight / ranks.total(weight.sum()).clamp(min=1.0)
    suffix = step.norm_key.removeprefix("gradient/norm")
    return noise(torch.func.vmap(gradient)(*parts).detach() * weight.unsqueeze(-1), suffix)


def where_rows_are(x: Any, pieces: int, dim: int) -> int | None:
    """Find the axis of a loss's argument along which its rows lie; None where there is none.

    It is `dim`, or the last axis, as in targets [N agents, rows].
    """
    if not isinstance(x, Tensor) or x.dim() <= dim:
        return None
    return next((axis for axis in (dim, x.dim() - 1) if x.shape[axis] == pieces), None)


def batch_size(args: tuple[Any, ...]) -> tuple[int, int]:
    """Return how many rows (or columns of a rollout) a loss's arguments hold, and in which dimension they lie."""
    for x in args:
        if isinstance(x, Transition):
            return x.reward.shape[-1], x.reward.dim() - 1
    sizes = [x.shape[0] for x in tree_flatten(args)[0] if isinstance(x, Tensor) and x.dim()]
    return (sizes[0] if sizes else 0), 0


class Before:
    """The parameters and the policy before an update."""

    def __init__(self, algorithm: Algorithm, batch: Transition) -> None:
        self.algorithm = algorithm
        self.theta = self.parameters().clone()
        self.pi = self.policy(batch)

    def parameters(self) -> Tensor:
        """Return the policy's parameters, flat; if not on-policy, the parameters that gradient steps change."""
        if isinstance(self.algorithm, OnPolicy):
            return torch.cat([p.detach().flatten() for p in self.algorithm.model.actor.parameters()])
        return torch.cat([step.theta.detach() for step in self.algorithm.steps().values()])

    @torch.no_grad()
    def policy(self, batch: Transition) -> Distribution | None:
        """Return π at the batch's observations; None if the algorithm is not on-policy."""
        return self.algorithm.model.policy(batch) if isinstance(self.algorithm, OnPolicy) else None

    def moved(self, batch: Transition) -> dict[str, Tensor]:
        """Measure how far the update has moved the parameters and the policy."""
        metrics = {"step/norm": torch.linalg.vector_norm(self.parameters() - self.theta)}
        if self.pi is not None and (pi := self.policy(batch)) is not None:
            # of hardly any move it may come out below 0 by rounding
            metrics["policy/kl_step"] = mean_over_ranks(self.pi.kl(pi), batch.valid).clamp(min=0.0)
        return metrics


@contextmanager
def untouched(algorithm: Algorithm) -> Iterator[None]:
    """Restore an algorithm's running statistics after the block."""
    kept = [x.clone() for x in algorithm.buffers()]
    norms = [module for module in algorithm.modules() if isinstance(module, RunningNorm)]
    merged = [None if norm.merged is None else list(norm.merged) for norm in norms]
    try:
        yield
    finally:
        for norm, before in zip(norms, merged, strict=True):
            norm.merged = before
        for x, old in zip(algorithm.buffers(), kept, strict=True):
            if x.shape == old.shape:
                x.copy_(old)
            else:  # its shape, one entry an environment, was set only now
                x.zero_()
