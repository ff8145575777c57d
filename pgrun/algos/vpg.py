"""Vanilla policy gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.algos.parts.fitted_critic import FittedCritic
from pgrun.data.types import Transition, mask_mean, mean_over_ranks


class VPG(FittedCritic):
    """Vanilla policy gradient: one policy step a rollout along E[∇log π(a_t|s_t) Ψ_t], and many critic steps.

    Sutton et al. 2000, https://papers.nips.cc/paper/1713, in the form of OpenAI's Spinning Up,
    https://spinningup.openai.com/en/latest/algorithms/vpg.html, algorithm 1.
    """

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.policy_step = self.gradient_step(self.actor, self.policy_loss, name="policy")

    def improve(self, batch: Transition) -> dict[str, Tensor]:
        """Take the policy's step; see `FittedCritic.improve`."""
        batch = self.sample(batch)
        metrics = self.policy_step(batch)
        with torch.no_grad():
            pi = self.model.policy(batch)
            metrics["policy/kl"] = mean_over_ranks(pi.like(batch.extras["pi"]).kl(pi), batch.valid)
        return metrics

    def policy_loss(self, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute minus the surrogate, on rows [M] or sequences [L, M]."""
        objective, pi = self.surrogate(batch)
        entropy = mask_mean(pi.entropy(), batch.valid)
        return -objective, {"loss/policy": -objective.detach(), "policy/entropy": entropy.detach()}
