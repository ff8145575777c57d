"""Natural policy gradient, and the base of all that step along F⁻¹g."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from pgrun.algos.parts.fitted_critic import FittedCritic
from pgrun.config.ranges import Count, Falling, NotNegative, Positive, Scheduled
from pgrun.core import ranks
from pgrun.core.trust_region import boundary, conjugate_gradient, flat_gradient, hessian_product
from pgrun.data.types import Transition, mask_mean, mean_over_ranks
from pgrun.optim.vectors import flatten_parameters


class NaturalGradient(FittedCritic):
    """An algorithm that computes F⁻¹g by conjugate gradient, F the Fisher matrix of π at the rollout's states.

    Args:
        delta: δ, the KL divergence from the old policy that a step may have, in nats; by its quadratic form here.
        delta_schedule: how δ falls over the run, down to 0 unless constant.
        cg_iterations: steps of conjugate gradient, at most.
        cg_tolerance: the residual, as a share of the gradient, at which they are enough.
        damping: λ of (F + λI)⁻¹: against directions that the policy does not depend on.
        fisher_rows: take Fisher products on so many random steps of the rollout, to save time; null: on all.
    """

    def __init__(
        self,
        *,
        delta: Scheduled[Positive],
        delta_schedule: Falling,
        cg_iterations: Count,
        cg_tolerance: NotNegative,
        damping: Positive,
        fisher_rows: Count | None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.delta = self.coefficient("delta", delta, delta_schedule, traced=False)
        self.damping, self.fisher_rows = damping, fisher_rows
        self.cg_iterations, self.cg_tolerance = cg_iterations, cg_tolerance
        self.theta = flatten_parameters(self.actor)

    def natural_gradient(self, batch: Transition, whole: Transition) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Compute x = F⁻¹g and g, both [P], of a rollout [T, B] and all its steps; return metrics, too."""
        objective, pi = self.surrogate(whole)
        g = flat_gradient(objective, self.actor)
        with torch.no_grad():
            entropy = mask_mean(pi.entropy(), whole.valid)
        g, objective, entropy = ranks.mean(whole.valid.sum(), g, objective.detach(), entropy)
        rows = whole if self.fisher_rows is None else self.sample(batch, self.fisher_rows)
        fisher, n = hessian_product(self.kl_from_here(rows), self.actor), rows.valid.sum()  # F = ∇²KL at θ_old
        x = conjugate_gradient(
            lambda v: ranks.mean(n, fisher(v)),
            g,
            iterations=self.cg_iterations,
            tolerance=self.cg_tolerance,
            damping=self.damping,
        )
        norm = torch.linalg.vector_norm(g)
        return x, g, {"loss/policy": -objective, "policy/entropy": entropy, "gradient/norm_policy": norm}

    def kl_from_here(self, batch: Transition) -> Tensor:
        """Compute KL(π_θ′‖π_θ) with θ′ = θ held, a mean over states.

        It is 0, with zero gradient; its second derivative is F.
        """
        pi = self.model.policy(batch)
        return mask_mean(pi.like(pi.params().detach()).kl(pi), batch.valid)


class NPG(NaturalGradient):
    """Natural policy gradient: θ ← θ + α F⁻¹g. Kakade 2001, https://papers.nips.cc/paper/2073.

    The step's length is either α itself, or that of ½ Δᵀ F Δ = δ: α = √(2δ / gᵀF⁻¹g), Peters & Schaal 2008,
    https://doi.org/10.1016/j.neunet.2008.02.003.

    Args:
        step: how long a step is: kl: as far as delta lets it; fixed: step_length times the natural gradient.
        step_length: α, with step=fixed.
    """

    def __init__(self, *, step: Literal["kl", "fixed"], step_length: Positive, **common: Any) -> None:
        super().__init__(**common)
        self.to_boundary, self.step_length = step == "kl", step_length

    def improve(self, batch: Transition) -> dict[str, Tensor]:
        """Take the natural step; see `FittedCritic.improve`."""
        whole = self.sample(batch)
        x, g, metrics = self.natural_gradient(batch, whole)
        alpha = boundary(x, g, self.delta) if self.to_boundary else self.step_length
        self.theta += alpha * x
        with torch.no_grad():
            pi = self.model.policy(whole)
            metrics["policy/kl"] = mean_over_ranks(pi.like(whole.extras["pi"]).kl(pi), whole.valid)
        return metrics
