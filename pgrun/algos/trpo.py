"""Trust region policy optimisation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from pgrun.algos.npg import NaturalGradient
from pgrun.config.ranges import Between, Count
from pgrun.core import ranks
from pgrun.core.trust_region import boundary, line_search
from pgrun.data.types import Transition, mean_over_ranks
from pgrun.nn.distributions import Distribution


class TRPO(NaturalGradient):
    """Trust region policy optimisation: max_θ E[ρ_t Ψ_t] under KL(π_old‖π_θ) ≤ δ.

    Schulman et al. 2015, https://arxiv.org/abs/1502.05477, eq. 14 and appendix C: a natural step to the boundary, then
    back until the objective has risen and the bound holds.

    Args:
        kl: over states, the mean, or the maximum, which is the theory's.
        kl_direction: old_new: KL(π_old‖π); new_old: KL(π‖π_old).
        shrink: each of these lengths is this share of the one before.
        backtracks: lengths of the line search to try, before the old policy stays.
    """

    adds_correction = False  # the search needs the surrogate's value, not only its gradient

    def __init__(
        self,
        *,
        kl: Literal["mean", "max"],
        kl_direction: Literal["old_new", "new_old"],
        shrink: Between,
        backtracks: Count,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.of_max, self.old_first = kl == "max", kl_direction == "old_new"
        self.shrink, self.backtracks = shrink, backtracks

    def improve(self, batch: Transition) -> dict[str, Tensor]:
        """Take the natural step with a line search; see `FittedCritic.improve`."""
        whole = self.sample(batch)
        x, g, metrics = self.natural_gradient(batch, whole)
        before = -metrics["loss/policy"]  # L(θ_old)

        def accept() -> bool:  # on a GPU a sync point
            local_objective, pi = self.surrogate(whole)
            objective = ranks.mean(whole.valid.sum(), local_objective)
            return bool((self.divergence(pi, whole) <= self.delta) & (objective > before))

        beta = line_search(
            self.theta, boundary(x, g, self.delta) * x, accept, shrink=self.shrink, tries=self.backtracks
        )
        with torch.no_grad():
            kl = self.divergence(self.model.policy(whole), whole)
        return metrics | {"policy/kl": kl, "policy/step_fraction": kl.new_tensor(beta)}

    def divergence(self, pi: Distribution, batch: Transition) -> Tensor:
        """Compute the divergence that δ bounds, 0-dim.

        It is the mean or the maximum over states of KL(π_old‖π) or KL(π‖π_old).
        """
        old = pi.like(batch.extras["pi"])
        kl = old.kl(pi) if self.old_first else pi.kl(old)
        if self.of_max:
            return ranks.largest(kl.masked_fill(~batch.valid, 0.0).max())
        return mean_over_ranks(kl, batch.valid)
