"""Ways to fit a critic apart from the policy's step (config group `algo/critic_fit`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.config.ranges import Count, NotNegative, Positive, Scheduled
from pgrun.core import ranks
from pgrun.core.trust_region import boundary, conjugate_gradient, flat_gradient, hessian_product, line_search
from pgrun.data.types import Transition, mask_mean, mean_over_ranks
from pgrun.optim.gradient_step import GradientStep
from pgrun.optim.vectors import flatten_parameters


class CriticFit(Protocol):
    """A way to fit V_φ to the targets V̂ of a rollout."""

    def prepare(self, algorithm: OnPolicy) -> GradientStep | None:
        """Get ready once the networks are on their device; return the gradient step that it takes, or None."""

    def __call__(self, algorithm: OnPolicy, batch: Transition) -> dict[str, Tensor]:
        """Fit V to `target` in the extras of a rollout [T, B].

        Returns:
            Metrics, with `loss/value`, ½ mean (V − V̂)².
        """


@dataclass(kw_only=True)
class Regression:
    """Regression by epochs of minibatches on ½ mean (V − V̂)², with the run's optimizer.

    Args:
        epochs: passes over a rollout.
        minibatch: rows a gradient step.
        lr: the critic's learning rate; null: the optimizer's.
    """

    epochs: Count
    minibatch: Count
    lr: Scheduled[Positive] | None

    def prepare(self, algorithm: OnPolicy) -> GradientStep:
        """Make the critic's gradient step."""
        assert algorithm.model.critic is not None
        critic = algorithm.model.critic.parameters()
        self.step = algorithm.gradient_step(critic, algorithm.value_loss, name="value", lr=self.lr)
        return self.step

    def __call__(self, algorithm: OnPolicy, batch: Transition) -> dict[str, Tensor]:
        """Fit V; see `CriticFit`."""
        return self.step.each(algorithm.minibatches(fitted_to(batch), self.epochs, self.minibatch))


@dataclass(kw_only=True)
class TrustRegion:
    """One Gauss-Newton step on ½ mean (V − V̂)² under mean (V − V_old)²/(2σ²) ≤ δ, with σ² = mean (V_old − V̂)².

    Schulman et al. 2016, https://arxiv.org/abs/1506.02438, section 5: the trust region of N(V, σ²) as a distribution.
    The step goes to the boundary, or to the minimum where that is nearer, and back where V bends.

    Args:
        delta: how far V may go, mean (V − V_old)² / (2σ²) with σ² the mean squared error before; from 0.5 on no limit.
        cg_iterations: steps of conjugate gradient, at most.
        cg_tolerance: the residual, as a share of the gradient, at which they are enough.
        damping: λ of (F + λI)⁻¹.
    """

    delta: Positive
    cg_iterations: Count
    cg_tolerance: NotNegative
    damping: Positive

    def prepare(self, algorithm: OnPolicy) -> None:
        """Lay the critic's parameters in one flat vector."""
        assert algorithm.model.critic is not None
        self.parameters = list(algorithm.model.critic.parameters())
        self.phi = flatten_parameters(self.parameters)

    def __call__(self, algorithm: OnPolicy, batch: Transition) -> dict[str, Tensor]:
        """Fit V; see `CriticFit`."""
        batch = next(iter(algorithm.minibatches(fitted_to(batch), 1, None)))
        target, valid, v = batch.extras["target"], batch.valid, algorithm.model.value(batch)
        v_old = v.detach()
        n = valid.sum()
        sigma2 = mean_over_ranks((v_old - target).square(), valid).clamp(min=1e-12)  # σ²

        def error(v: Tensor) -> Tensor:  # the objective; it is ½ at V_old
            return mask_mean((v - target).square(), valid) / (2.0 * sigma2)

        def distance(v: Tensor) -> Tensor:  # δ bounds it; the paper's ε
            return mask_mean((v - v_old).square(), valid) / (2.0 * sigma2)

        g = -ranks.mean(n, flat_gradient(error(v), self.parameters, keep=True))
        local_product = hessian_product(distance(v), self.parameters)  # H/σ², H = (1/N) Σ jjᵀ with j = ∇V
        s = conjugate_gradient(
            lambda x: ranks.mean(n, local_product(x)),
            g,
            iterations=self.cg_iterations,
            tolerance=self.cg_tolerance,
            damping=self.damping,
        )
        alpha = boundary(s, g, self.delta).clamp(max=1.0)  # 1 is the minimum of the quadratic

        def accept() -> bool:
            v = algorithm.model.value(batch)
            moved, remaining = ranks.mean(n, distance(v), error(v))
            return bool((moved <= self.delta * (1.0 + 1e-3)) & (remaining < 0.5))  # 1e-3: rounding

        fraction = line_search(self.phi, alpha * s, accept, shrink=0.5, tries=10)
        with torch.no_grad():
            after = ranks.mean(n, distance(algorithm.model.value(batch)))
        return {
            "loss/value": 0.5 * sigma2,
            "value/distance": after,
            "value/step_fraction": after.new_tensor(fraction),
        }


def fitted_to(batch: Transition) -> Transition:
    """Keep only the extras that a fit of V needs: the targets, and a recurrent network's first state."""
    return batch._replace(extras={key: x for key, x in batch.extras.items() if key in ("target", "carry")})
