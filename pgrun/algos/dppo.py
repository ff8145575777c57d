"""Distributed proximal policy optimisation."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from pgrun.algos.parts.fitted_critic import FittedCritic
from pgrun.config.ranges import Count, Fraction, NotNegative, Positive, Range, Scheduled
from pgrun.core import losses
from pgrun.data.types import Transition, mask_mean, mean_over_ranks


class DPPO(FittedCritic):
    """Proximal policy optimisation by many workers, with an adaptive KL penalty.

    Heess et al. 2017, https://arxiv.org/abs/1707.02286, appendix A. This is what each worker does, algorithm 3; with
    one worker it is algorithm 1. With `parallel=ray` each gradient goes to the chief, algorithm 2, and the worker goes
    on when it is taken in or dropped. R̂_t and Â_t are the chosen advantage's, the B baseline substeps the critic's
    fit.

    Args:
        policy_substeps: M, how often the policy's step sees the whole rollout.
        minibatch: rows of it a gradient; None: all.
        clip_range: ε of the clipped surrogate, which then takes the place of the penalty; None: the penalty.
        kl_coef: λ at the start.
        kl_target: KL_target.
        kl_high, kl_low: β_high and β_low; λ changes where the KL leaves this range around the target.
        kl_factor: α, by how much.
        kl_excess: ξ, weight of the squared excess over 2 KL_target.
    """

    adds_correction = False
    lambda_: Tensor

    def __init__(
        self,
        *,
        policy_substeps: Count,
        minibatch: Count | None,
        clip_range: Scheduled[Positive] | None,
        kl_coef: Positive,
        kl_target: Scheduled[Positive],
        kl_high: Annotated[float, Range(1)],
        kl_low: Fraction,
        kl_factor: Annotated[float, Range(1)],
        kl_excess: NotNegative,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.policy_substeps, self.minibatch = policy_substeps, minibatch
        self.epsilon = None if clip_range is None else self.coefficient("epsilon", clip_range)
        self.kl_target = self.coefficient("kl_target", kl_target)
        self.kl_high, self.kl_low = kl_high, kl_low
        self.kl_factor, self.kl_excess = kl_factor, kl_excess
        self.register_buffer("lambda_", torch.tensor(float(kl_coef), device=self.device))
        self.policy_step = self.gradient_step(self.actor, self.policy_loss, name="policy")

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Learn from a rollout; see `Algorithm.update`."""
        batch = self.estimate(batch)  # R̂_t, Â_t, and π_old ← π_θ
        metrics = self.learn(batch)
        self.model.observe(batch)
        return metrics

    def learn(self, batch: Transition) -> dict[str, Tensor]:
        """Take the substeps on a rollout [T, B] as `estimate` returns it, and adapt λ; return metrics."""
        results = []
        for part in self.minibatches(batch, self.policy_substeps, self.minibatch):  # m = 1 … M
            if (kl := self.kl(part)) > 4.0 * self.kl_target:  # on a GPU a sync point
                return {"policy/kl": kl}  # the policy has moved too far from the rollout's: on to the next
            results.append(self.policy_step(part, self.lambda_))
        metrics = {key: torch.stack([result[key] for result in results]).mean() for key in results[0]}
        if self.model.critic is not None:
            metrics |= self.critic_fit(self, batch)  # b = 1 … B: ∇_φ L_BL
        value, target = batch.extras["value"], batch.extras["target"]
        metrics["value/explained_variance"] = losses.explained_variance(value, target, batch.valid)
        kl, alpha = self.kl(batch), self.kl_factor
        high, low = kl > self.kl_high * self.kl_target, kl < self.kl_low * self.kl_target
        self.lambda_.mul_(torch.where(high, alpha, torch.where(low, 1.0 / alpha, 1.0)))
        return metrics | {"policy/kl": kl, "policy/lambda": self.lambda_.clone()}

    @torch.no_grad()
    def kl(self, batch: Transition) -> Tensor:
        """Compute KL[π_old|π_θ], 0-dim."""
        pi = self.model.policy(batch)
        return mean_over_ranks(pi.like(batch.extras["pi"]).kl(pi), batch.valid)

    def policy_loss(self, batch: Transition, lambda_: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −J_PPO(θ) minus the entropy bonus, on rows [M] or sequences [L, M]."""
        pi = self.model.policy(batch)
        ratio = (pi.log_prob(batch.action) - batch.extras["log_prob"]).exp()
        psi, entropy = batch.extras["psi"], mask_mean(pi.entropy(), batch.valid)
        if self.epsilon is None:
            kl = mask_mean(pi.like(batch.extras["pi"]).kl(pi), batch.valid)
            excess = (kl - 2.0 * self.kl_target).clamp(min=0.0)
            j = mask_mean(ratio * psi, batch.valid) - lambda_ * kl - self.kl_excess * excess.square()
        else:
            epsilon = self.epsilon * torch.ones_like(entropy)
            j = -mask_mean(losses.clipped_surrogate(ratio, psi, epsilon), batch.valid)
        loss = -j - self.entropy_coef * entropy
        return loss, {"loss/policy": -j.detach(), "policy/entropy": entropy.detach()}
