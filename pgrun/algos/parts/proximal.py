"""Parts that PPO and GRPO share: epochs of minibatches on a clipped surrogate, and perhaps a reference policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.algos.parts.rates import critics_rate
from pgrun.algos.parts.reference import Reference
from pgrun.config.ranges import Count, Falling, FileName, NotNegative, Positive, Scheduled
from pgrun.core import ranks
from pgrun.core.schedules import Schedule
from pgrun.data.types import Transition
from pgrun.optim.cuda_graphs import Graphs
from pgrun.optim.gradient_step import mean_metrics


class Proximal(OnPolicy):
    """An on-policy algorithm that takes K epochs of minibatches on `loss(sample, ε)`, which a subclass writes.

    Args:
        epochs: K, passes over a rollout.
        minibatch: rows a gradient step.
        clip_range: ε; None: no clip.
        clip_schedule: how ε falls over the run.
        clip_high: ε above 1, where it differs from ε below; null: it does not.
        kl_stop: the KL from the old policy, in nats, at which a minibatch ends a rollout's epochs; null: none does.
        critic_lr: α^w, the critic's learning rate; null: the optimizer's.
        entropy_coef: weight of the entropy bonus.
        reference: a run, or a checkpoint file, whose policy to stay near; None: none.
        reference_coef: weight of the penalty KL(π‖π_ref).
        kl_estimator: k1 (−log r) or k3 (r − 1 − log r), with r = π_ref/π.
        kl_in: where the penalty goes: loss (weighted by ρ, which makes its gradient the KL's) or reward.
    """

    def __init__(
        self,
        *,
        epochs: Count,
        minibatch: Count,
        clip_range: Scheduled[Positive] | None,
        clip_schedule: Falling,
        entropy_coef: Scheduled[NotNegative],
        reference: FileName | None,
        reference_coef: Scheduled[NotNegative],
        kl_estimator: Literal["k1", "k3"],
        kl_in: Literal["loss", "reward"],
        clip_high: Scheduled[Positive] | None = None,
        kl_stop: Scheduled[Positive] | None = None,
        critic_lr: Scheduled[Positive] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.epochs, self.minibatch = epochs, minibatch
        clip = math.inf if clip_range is None else clip_range
        self.clip_range = Schedule(clip, clip_schedule, setting="algo.clip_schedule")  # ε
        self.clip_high = self.clip_range if clip_high is None else Schedule(clip_high)
        self.kl_stop = None if kl_stop is None else Schedule(kl_stop)
        self.entropy_coef = self.coefficient("entropy_coef", entropy_coef)
        self.reference_coef = self.coefficient("reference_coef", reference_coef)
        self.reference = (
            Reference(self.model, run=reference, coef=self.reference_coef, estimator=kl_estimator, into=kl_in)
            if reference
            else None
        )
        self.kept_epsilon: list[Tensor] = []  # ε as captured code reads it
        apart = critics_rate(self.model, critic_lr)
        self.step = self.gradient_step(self.model.parameters(), self.loss, apart=apart)

    def begin(self, load: Callable[[str], dict[str, Tensor]]) -> None:
        """Load the reference policy, if there is one; see `Algorithm.begin`."""
        if self.reference is not None:
            self.reference.load(load(self.reference.run))

    def seen(self, batch: Transition) -> Transition:
        """Add the reference's log-probabilities and penalty to a rollout, if there is a reference."""
        return batch if self.reference is None else self.reference.see(batch, self.model)

    def schedules(self) -> dict[str, float]:
        """Return the current learning rates, ε and other coefficients that change; see `Algorithm.schedules`."""
        clip, high = self.clip_range(self.progress), self.clip_high(self.progress)
        bounds = {"clip_range": clip, **({} if self.clip_high is self.clip_range else {"clip_high": high})}
        if self.kl_stop is not None and not self.kl_stop.constant:
            bounds["kl_stop"] = self.kl_stop(self.progress)
        return {**super().schedules(), **{f"schedule/{k}": x for k, x in bounds.items() if math.isfinite(x)}}

    def run_epochs(self, batch: Transition) -> dict[str, Tensor]:
        """Take the gradient steps on a rollout [T, B]; return the means of their metrics."""
        one, epsilon = torch.ones_like(batch.reward[0, 0]), self.epsilon(batch)
        samples = self.minibatches(batch, self.epochs, self.minibatch)
        if self.kl_stop is None:
            return self.step.each(samples, *epsilon)
        results = []
        for sample in samples:
            results.append(self.step(sample, *epsilon))
            if self.far(sample, results[-1]["policy/kl"]):  # on a GPU a sync point
                break
        return mean_metrics(results) | {"policy/steps": one * len(results)}

    def clips(self) -> list[Schedule]:
        """Return the schedules of ε: one, or two where it differs below 1 and above."""
        return [self.clip_range] if self.clip_high is self.clip_range else [self.clip_range, self.clip_high]

    def epsilon(self, batch: Transition) -> list[Any]:
        """Return ε for a rollout's gradient steps, as `loss` takes it."""
        if self.captured is not None:
            return list(self.kept_epsilon)
        one, progress = torch.ones_like(batch.reward[0, 0]), self.progress
        epsilon = [clip.followed(progress) * (one * clip.factor(progress)) for clip in self.clips()]
        # in compiled code a number would be a constant; elsewhere it is the faster operand
        return list(epsilon) if self.compile_steps else [float(x) for x in epsilon]

    def capture(self, graphs: Graphs) -> None:
        """Keep ε as tensors, too: in captured code a number would be a constant; see `Algorithm.capture`."""
        super().capture(graphs)
        self.kept_epsilon = [torch.tensor(clip(self.progress), device=self.device) for clip in self.clips()]

    def follow_schedules(self, progress: float) -> None:
        """Give ε its value, too; see `Coefficients.follow_schedules`."""
        super().follow_schedules(progress)
        for kept, clip in zip(self.kept_epsilon, self.clips(), strict=False):
            kept.fill_(clip(progress))

    def far(self, sample: Transition, kl: Tensor) -> bool:
        """Tell whether a minibatch's policy was too far from the old one, over all ranks."""
        assert self.kl_stop is not None
        return bool(ranks.mean(sample.valid.sum(), kl) > self.kl_stop(self.progress))

    def loss(self, sample: Transition, *epsilon: Tensor | float) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute a gradient step's loss.

        Args:
            sample: rows [M] or sequences [L, M].
            *epsilon: ε, a number, or 0-dim where steps are compiled; two where it differs below 1 and above.

        Returns:
            The 0-dim loss, and metrics, of which `policy/kl` is an estimate of KL(π_old‖π).
        """
        raise NotImplementedError
