"""Mirror descent policy optimisation, on-policy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.algos.ppo import PPO
from pgrun.config.ranges import Falling, Positive, Scheduled
from pgrun.data.types import Transition, mean_over_ranks
from pgrun.nn.distributions import Distribution


class MDPO(PPO):
    """Mirror descent policy optimisation: max_θ E[ρ_t Â_t] − (1/η_k) KL(π_θ‖π_k), with π_k the policy that acted.

    Tomar et al. 2020, https://arxiv.org/abs/2005.09814, algorithm 1; η_k is the paper's t_k. Each problem is solved by
    several gradient steps. The loop, the minibatches and, where it is asked for, the clip are PPO's.

    Args:
        eta: η at the start, the step size of mirror descent: KL(π‖π_k) weighs 1/η.
        eta_schedule: how η falls over the run, down to 0 unless constant.
    """

    eta: float | Tensor

    def __init__(self, *, eta: Scheduled[Positive], eta_schedule: Falling, **common: Any) -> None:
        super().__init__(**common)
        self.eta = self.coefficient("eta", eta, eta_schedule)  # η_k

    def penalty(self, sample: Transition, pi: Distribution, log_prob: Tensor, ratio: Tensor) -> Tensor:
        """Compute (1/η_k) KL(π‖π_k), [...]."""
        kl = pi.kl(pi.like(sample.extras["pi"]))
        return kl / self.eta + super().penalty(sample, pi, log_prob, ratio)

    @torch.no_grad()
    def after_epochs(self, batch: Transition) -> dict[str, Tensor]:
        """Measure KL(π‖π_k) once the epochs are over."""
        pi = self.model.policy(batch)
        kl = pi.kl(pi.like(batch.extras["pi"]))
        return {
            "policy/kl": mean_over_ranks(kl, batch.valid),
            "policy/eta": torch.as_tensor(self.eta, device=kl.device).clone(),
        }
