"""Proximal policy optimisation with an adaptive KL penalty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.algos.ppo import PPO
from pgrun.config.ranges import Positive, Scheduled
from pgrun.data.types import Transition, mean_over_ranks
from pgrun.nn.distributions import Distribution


class PPOKL(PPO):
    """PPO with a penalty on KL(π_old‖π) whose weight follows a target, instead of the clip (or beside it).

    Schulman et al. 2017, https://arxiv.org/abs/1707.06347, section 4.

    Args:
        kl_coef: β at the start; halved below kl_target / 1.5, doubled above 1.5 kl_target.
        kl_target: d_targ, in nats.
    """

    beta: Tensor

    def __init__(self, *, kl_coef: Positive, kl_target: Scheduled[Positive], **common: Any) -> None:
        super().__init__(**common)
        self.kl_target = self.coefficient("kl_target", kl_target)
        self.register_buffer("beta", torch.tensor(float(kl_coef), device=self.device))

    def penalty(self, sample: Transition, pi: Distribution, log_prob: Tensor, ratio: Tensor) -> Tensor:
        """Compute β KL(π_old‖π), eq. 8, [...]."""
        kl = pi.like(sample.extras["pi"]).kl(pi)
        return self.beta * kl + super().penalty(sample, pi, log_prob, ratio)

    @torch.no_grad()
    def after_epochs(self, batch: Transition) -> dict[str, Tensor]:
        """Measure the KL and adapt β."""
        pi = self.model.policy(batch)
        d = mean_over_ranks(pi.like(batch.extras["pi"]).kl(pi), batch.valid)
        self.beta.mul_(torch.where(d < self.kl_target / 1.5, 0.5, torch.where(d > self.kl_target * 1.5, 2.0, 1.0)))
        return {"policy/kl": d, "policy/beta": self.beta.clone()}
