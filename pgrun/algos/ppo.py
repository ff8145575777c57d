"""Proximal policy optimisation, clipped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.algos.on_policy import OnPolicy
from pgrun.core import losses
from pgrun.core.advantages import normalize
from pgrun.core.schedules import SCHEDULES
from pgrun.errors import UserError
from pgrun.types import Transition, mask_mean


class PPO(OnPolicy):
    """K epochs of minibatches on the clipped surrogate. Schulman et al. 2017, https://arxiv.org/abs/1707.06347."""

    def __init__(
        self,
        *,
        epochs: int,
        minibatch: int,
        clip_range: float,
        clip_schedule: str,
        normalize_advantage: bool,
        entropy_coef: float,
        value_coef: float,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if clip_schedule not in SCHEDULES:
            raise UserError(f"algo.clip_schedule={clip_schedule} is not known; choose one of {', '.join(SCHEDULES)}")
        self.epochs, self.minibatch = epochs, minibatch
        self.clip_range, self.clip_schedule = clip_range, SCHEDULES[clip_schedule]
        self.normalize_advantage = normalize_advantage
        self.entropy_coef, self.value_coef = entropy_coef, value_coef
        self.step = self.gradient_step(self.model.parameters(), self.loss)

    def update(self, batch: Transition) -> dict[str, Tensor]:
        batch = self.estimate(batch)
        epsilon = self.clip_range * torch.full_like(batch.reward[0, 0], self.clip_schedule(self.progress))
        every = [self.step(sample, epsilon) for sample in self.minibatches(batch, self.epochs, self.minibatch)]
        metrics = {key: torch.stack([each[key] for each in every]).mean() for key in every[0]}
        value, target = batch.extras["value"], batch.extras["target"]
        metrics["value/explained_variance"] = losses.explained_variance(value, target, batch.valid)
        self.model.observe(batch)
        return metrics

    def loss(self, sample: Transition, epsilon: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """−L^{CLIP+VF+S}, eq. 9, on rows [M] or sequences [L, M]."""
        valid, target, a = sample.valid, sample.extras["target"], sample.extras["psi"]
        if self.normalize_advantage:
            a = normalize(a, valid)  # Â_t
        pi, value = self.model(sample)
        log_ratio = pi.log_prob(sample.action) - sample.extras["log_prob"]
        ratio = log_ratio.exp()  # ρ_t
        policy = mask_mean(losses.clipped_surrogate(ratio, a, epsilon), valid)  # eq. 7
        entropy = mask_mean(pi.entropy(), valid)
        critic = mask_mean(losses.value_error(value, target), valid)
        total = policy + self.value_coef * critic - self.entropy_coef * entropy
        with torch.no_grad():
            kl = mask_mean(ratio - 1.0 - log_ratio, valid)  # Schulman's k3, http://joschu.net/blog/kl-approx.html
            clipped = mask_mean(((ratio - 1.0).abs() > epsilon).to(ratio.dtype), valid)
        return total, {
            "loss/policy": policy.detach(),
            "loss/value": critic.detach(),
            "policy/entropy": entropy.detach(),
            "policy/kl": kl,
            "policy/clip_fraction": clipped,
        }
