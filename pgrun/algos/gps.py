"""Guided policy search, importance-sampled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from pgrun.algos.parts.stochastic_policy import StochasticPolicy
from pgrun.config.ranges import Count, CountOrZero, NotNegative
from pgrun.data.types import Transition, mask_mean
from pgrun.errors import UserError
from pgrun.nn import ActorCritic
from pgrun.nn.distributions import Distribution


class GPS(StochasticPolicy):
    """Guided policy search on importance-weighted returns of old samples and of guiding ones.

    Levine & Koltun 2013, https://proceedings.mlr.press/v28/levine13.html, algorithm 1 without adaptive guides. Samples
    are weighed by π over the mixture of all policies that acted. The guides are demonstrations instead of samples
    around DDP's solutions; their density π_G is fitted.

    Args:
        policies: how many of the latest policies' samples an update learns from.
        epochs: gradient steps on the objective after each rollout.
        fit_steps: gradient steps, in which the demonstrations' density is fitted, which is then the first policy.
        regularization: w_r, the weight of Σ_t log Z_t(θ), which keeps the policy where there are samples.
    """

    learns_from = "rollouts"
    compares = True
    past: Tensor  # [K, P] θ of the policies that acted, by their number modulo K
    number: Tensor  # the number of the policy that acts now

    def __init__(
        self,
        *,
        policies: Count,
        epochs: Count,
        fit_steps: CountOrZero,
        regularization: NotNegative,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if getattr(self.network, "normalize_obs", False):
            raise UserError(
                "algo=gps weighs samples by all policies that acted, and network.normalize_obs=true would change what "
                "the old ones see: use network.normalize_obs=false"
            )
        self.epochs, self.fit_steps, self.w_r = epochs, fit_steps, regularization
        self.model = ActorCritic(self.network, self.obs_space, self.action_space, critic=False)
        self.guide = deepcopy(self.model)  # π_G
        size = sum(p.numel() for p in self.model.parameters())
        self.register_buffer("past", torch.zeros(policies, size))
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))
        self.settle()
        self.step = self.gradient_step(self.model.parameters(), self.loss)
        self.fit_step = self.gradient_step(self.guide.parameters(), self.fit_loss, name="guide")

    def record(self, pi: Distribution, action: Tensor) -> dict[str, Tensor]:
        """Record which policy acted, and log π(a|s); see `StochasticPolicy.record`."""
        return {"source": self.number.expand(len(action)), "log_prob": pi.log_prob(action)}

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Learn from whole episodes [T, E], one a column; extras["source"] is the policy's number, −1 of a guide."""
        self.past[int(self.number) % len(self.past)] = self.step.theta  # the policy that acted
        guides = batch.valid & (batch.extras["source"][0] < 0)
        if int(self.number) == 0 and bool(guides.any()):
            self.fit(batch._replace(valid=guides))
        batch = batch._replace(extras={**batch.extras, "log_q": self.log_mixture(batch)})
        results = [self.step(batch) for _ in range(self.epochs)]
        self.number += 1
        metrics = {key: torch.stack([result[key] for result in results]).mean() for key in results[0]}
        return {**metrics, "policy/effective_samples": results[-1]["policy/effective_samples"]}

    def fit(self, batch: Transition) -> None:
        """Fit π_G to the guiding samples by maximum likelihood; the search starts from it, line 3."""
        for _ in range(self.fit_steps):
            self.fit_step(batch)
        self.step.theta.copy_(self.fit_step.theta)

    def fit_loss(self, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −log π_G(a|s) of the guiding samples."""
        loss = -mask_mean(self.guide.policy(batch).log_prob(batch.action), batch.valid)
        return loss, {"loss/guide": loss.detach()}

    @torch.no_grad()
    def log_mixture(self, batch: Transition) -> Tensor:
        """Compute log q(ζ_{i,1:t}), q = 1/n Σ_j q_j with q_j the policy of sample j, section 3.1; [T, E]."""
        source = batch.extras["source"][0]  # [E]
        terms = []
        for number in source.unique().tolist():
            if number < 0:
                log_prob = self.guide.policy(batch).log_prob(batch.action)
                known = (source < 0) & ~batch.extras["log_prob"].isnan()  # the demonstrator's own
                log_prob = torch.where(known, batch.extras["log_prob"], log_prob)
            else:
                with self.policy_of(self.past[number % len(self.past)]):
                    log_prob = self.log_prob(batch)
            terms.append(so_far(log_prob, batch.valid) + (source == number).to(log_prob.dtype).mean().log())
        return torch.stack(terms).logsumexp(0)

    @contextmanager
    def policy_of(self, theta: Tensor) -> Iterator[None]:
        """Have the model be the policy of other parameters θ [P] during the block."""
        present = self.step.theta.clone()
        self.step.theta.copy_(theta)
        try:
            yield
        finally:
            self.step.theta.copy_(present)

    def loss(self, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −Φ(θ), eq. 2: Φ = Σ_t [1/Z_t Σ_i π(ζ_{i,1:t}) / q(ζ_{i,1:t}) γ^t r_t^i + w_r log Z_t]."""
        pi = self.model.policy(batch)
        log_w = so_far(pi.log_prob(batch.action), batch.valid) - batch.extras["log_q"]  # [T, E]
        w = log_w.softmax(1)  # normalised by Z_t(θ) = Σ_i π / q
        t = torch.arange(len(w), device=w.device, dtype=w.dtype).unsqueeze(1)
        reward = torch.where(batch.valid, batch.reward, 0.0)
        value = (w * self.gamma**t * reward).sum()
        log_z = log_w.logsumexp(1) - torch.log(torch.full_like(log_w[:, 0], log_w.shape[1]))  # of the mean
        loss = -(value + self.w_r * log_z.sum())
        return loss, {
            "loss/policy": loss.detach(),
            "value/estimate": value.detach(),
            "policy/log_z": log_z.detach().mean(),
            "policy/effective_samples": 1.0 / w.detach()[-1].square().sum(),
            "policy/entropy": mask_mean(pi.entropy(), batch.valid).detach(),
        }


def so_far(log_prob: Tensor, valid: Tensor) -> Tensor:
    """Sum log π(a_j|s_j) over j ≤ t of one episode a column, [T, E]; after the end it stays."""
    return torch.where(valid, log_prob, 0.0).cumsum(0)
