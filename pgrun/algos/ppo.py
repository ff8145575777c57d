"""Proximal policy optimisation, clipped."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pgrun.algos.parts.proximal import Proximal
from pgrun.config.ranges import NotNegative, Positive, Scheduled
from pgrun.core import losses
from pgrun.core.normalization import normalize
from pgrun.data.types import Transition, mean_over
from pgrun.errors import UserError
from pgrun.nn.distributions import Distribution


class PPO(Proximal):
    """Proximal policy optimisation: K epochs of minibatches on the clipped surrogate.

    Schulman et al. 2017, https://arxiv.org/abs/1707.06347.

    Args:
        normalize_advantage: in each minibatch, to mean 0 and standard deviation 1.
        value_coef: c₁, weight of the value loss ½ (V − V̂)²: c₁ = 1 here is 0.5 where a code has no ½.
        value_clip: ε_v, beyond which a change of V in an update earns nothing; null: no limit.
    """

    def __init__(
        self,
        *,
        normalize_advantage: bool,
        value_coef: Scheduled[NotNegative],
        value_clip: Scheduled[Positive] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if normalize_advantage and not self.advantage.of_rewards:
            raise UserError(
                "algo.normalize_advantage=true leaves nothing of a Ψ that is always 1; "
                "use algo.normalize_advantage=false"
            )
        if value_clip is not None and self.model.critic is None:
            raise UserError(f"algo.value_clip={value_clip}: no critic is learned here; use algo.value_clip=null")
        self.normalize_advantage, self.clips_value = normalize_advantage, value_clip is not None
        self.value_coef = self.coefficient("value_coef", value_coef)
        self.value_clip = self.coefficient("value_clip", math.inf if value_clip is None else value_clip)

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Take the epochs on a rollout; see `Algorithm.update`."""
        batch = self.estimate(self.seen(batch))  # adds Ψ_t = Â_t and the critic's target, before any epoch
        metrics = self.run_epochs(batch)
        value, target = batch.extras["value"], batch.extras["target"]
        metrics["value/explained_variance"] = losses.explained_variance(value, target, batch.valid)
        metrics |= self.after_epochs(batch)
        self.model.observe(batch)
        return metrics

    def after_epochs(self, batch: Transition) -> dict[str, Tensor]:
        """Do a variant's work once the epochs are over; return metrics."""
        return {}

    def penalty(self, sample: Transition, pi: Distribution, log_prob: Tensor, ratio: Tensor) -> Tensor:
        """Compute the term that a variant, or the reference, adds to each row's loss, [...]."""
        if self.reference is None:
            return ratio.new_zeros(())
        return self.reference.penalty(sample, log_prob, ratio)

    def value_error(self, value: Tensor, sample: Transition) -> Tensor:
        """Compute each row's value loss, L^VF with its ½, [...]."""
        if self.clips_value:
            old, target = sample.extras["value"], sample.extras["target"]
            return losses.clipped_value_error(value, old, target, self.value_clip)
        return losses.value_error(value, sample.extras["target"])

    def loss(self, sample: Transition, *epsilon: Tensor | float) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −L^{CLIP+VF+S}, eq. 9, on rows [M] or sequences [L, M]."""
        mean, a = mean_over(sample.valid), sample.extras["psi"]  # Â_t: see `estimate`
        if self.normalize_advantage:
            a = normalize(a, sample.valid)  # Â_t
        pi, value = self.model(sample)
        log_prob = pi.log_prob(sample.action)
        log_ratio = log_prob - sample.extras["log_prob"]
        ratio = log_ratio.exp()  # ρ_t
        surrogate = losses.clipped_surrogate(ratio, a, *epsilon)  # eq. 7
        policy = mean(surrogate + self.penalty(sample, pi, log_prob, ratio))
        entropy = mean(pi.entropy())
        critic = mean(self.value_error(value, sample))
        total = policy + self.value_coef * critic - self.entropy_coef * entropy
        with torch.no_grad():
            kl = mean(ratio - 1.0 - log_ratio)  # Schulman's k3, http://joschu.net/blog/kl-approx.html
            clipped = mean(losses.outside_clip(ratio, *epsilon))
        return total, {
            "loss/policy": policy.detach(),
            "loss/value": critic.detach(),
            "policy/entropy": entropy.detach(),
            "policy/kl": kl,
            "policy/clip_fraction": clipped,
        }
