"""Parts that PPO and GRPO share: epochs of minibatches on a clipped surrogate, and perhaps a reference policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.algos.parts.reference import Reference
from pgrun.config.ranges import Count, FileName, NotNegative, Positive, Schedule
from pgrun.core.schedules import SCHEDULES
from pgrun.data.types import Transition
from pgrun.errors import UserError


class Proximal(OnPolicy):
    """An on-policy algorithm that takes K epochs of minibatches on `loss(sample, ε)`, which a subclass writes.

    Args:
        epochs: K, passes over a rollout.
        minibatch: rows a gradient step.
        clip_range: ε; None: no clip.
        clip_schedule: how ε falls over the run.
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
        clip_range: Positive | None,
        clip_schedule: Schedule,
        entropy_coef: NotNegative,
        reference: FileName | None,
        reference_coef: NotNegative,
        kl_estimator: Literal["k1", "k3"],
        kl_in: Literal["loss", "reward"],
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if clip_schedule not in SCHEDULES:
            raise UserError(f"algo.clip_schedule={clip_schedule} is not known; choose one of {', '.join(SCHEDULES)}")
        self.epochs, self.minibatch = epochs, minibatch
        self.clip_range = math.inf if clip_range is None else clip_range
        self.clip_schedule = SCHEDULES[clip_schedule]
        self.entropy_coef = entropy_coef
        self.reference = (
            Reference(self.model, run=reference, coef=reference_coef, estimator=kl_estimator, into=kl_in)
            if reference
            else None
        )
        self.step = self.gradient_step(self.model.parameters(), self.loss)

    def begin(self, load: Callable[[str], dict[str, Tensor]]) -> None:
        """Load the reference policy, if there is one; see `Algorithm.begin`."""
        if self.reference is not None:
            self.reference.load(load(self.reference.run))

    def seen(self, batch: Transition) -> Transition:
        """Add the reference's log-probabilities and penalty to a rollout, if there is a reference."""
        return batch if self.reference is None else self.reference.see(batch, self.model)

    def schedules(self) -> dict[str, float]:
        """Return the current learning rates and ε; see `Algorithm.schedules`."""
        clip = self.clip_range * self.clip_schedule(self.progress) if math.isfinite(self.clip_range) else math.inf
        return {**super().schedules(), **({"schedule/clip_range": clip} if math.isfinite(clip) else {})}

    def run_epochs(self, batch: Transition) -> dict[str, Tensor]:
        """Take the gradient steps on a rollout [T, B]; return the means of their metrics."""
        epsilon = self.clip_range * torch.full_like(batch.reward[0, 0], self.clip_schedule(self.progress))
        results = [self.step(sample, epsilon) for sample in self.minibatches(batch, self.epochs, self.minibatch)]
        return {key: torch.stack([result[key] for result in results]).mean() for key in results[0]}

    def loss(self, sample: Transition, epsilon: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute a gradient step's loss on rows [M] or sequences [L, M]; return the 0-dim loss and metrics."""
        raise NotImplementedError
