"""Mirror descent policy optimisation, off-policy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.algos.sac import SAC
from pgrun.config.ranges import Count, Falling, Positive, Scheduled
from pgrun.data.types import Obs, Transition
from pgrun.optim.gradient_step import slow_copy


class MDPOOffPolicy(SAC):
    """Soft actor-critic whose actor takes mirror descent steps from π_k, the policy of up to m updates ago.

    Tomar et al. 2020, https://arxiv.org/abs/2005.09814, algorithm 2, in its soft form; η_k is the paper's t_k and α its
    λ. It differs from the paper in two things: target networks are of the Qs, as SAC has them, not of a V; α may be
    learned.

    Args:
        eta: η at the start, the step size of mirror descent: KL(π‖π_k) weighs 1/η.
        eta_schedule: how η falls over the run, down to 0 unless constant.
        mirror_every: m, updates for which π_k stays what π is kept near.
        learn_temperature: towards target_entropy, as SAC does.
    """

    compares = True
    updates: Tensor
    eta: float | Tensor

    def __init__(
        self,
        *,
        eta: Scheduled[Positive],
        eta_schedule: Falling,
        mirror_every: Count,
        learn_temperature: bool,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.eta = self.coefficient("eta", eta, eta_schedule)  # η_k
        self.mirror_every, self.learn_temperature = mirror_every, learn_temperature
        self.actor_k, self.theta_k = slow_copy(self.actor)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long, device=self.device))

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Renew π_k every m updates, and learn as SAC does; see `Algorithm.update`."""
        due = self.updates % self.mirror_every == 0
        self.theta_k.lerp_(self.actor_step.theta, due.to(self.theta_k.dtype))  # θ_k ← θ, every m updates
        self.updates += 1
        return super().update(batch)

    def actor_loss(self, obs: Obs, noise: Tensor, alpha: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute E_{a~π}[α log π_k(a|s) − min_i Q_i(s, a)] + (1/η_k) KL(π‖π_k): the soft objective, linear at π_k.

        It is written as SAC's loss and (1/η_k − α) KL(π‖π_k), with the KL in closed form. At 1/η_k ≤ α it is SAC's.
        """
        pi = self.actor(obs)
        action, log_prob = pi.rsample(noise)
        kl = pi.kl(self.actor_k(obs)).mean()
        soft = (alpha * log_prob - self.q(obs, action).amin(0)).mean()
        loss = soft + (1.0 / torch.as_tensor(self.eta, device=kl.device) - alpha).clamp(min=0.0) * kl
        entropy = -log_prob.detach().mean()
        return loss, {"loss/actor": loss.detach(), "policy/entropy": entropy, "policy/kl": kl.detach()}

    def adapt(self, log_prob: Tensor) -> dict[str, Tensor]:
        """Step the temperature, if it is learned."""
        return super().adapt(log_prob) if self.learn_temperature else {}
