"""Policies and critics that learn apart: the policy takes its step, then the critic is fitted; how is a choice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from pgrun.algos.on_policy import OnPolicy
from pgrun.core import losses
from pgrun.core.advantages import NORMALIZE
from pgrun.core.trust_region import boundary, conjugate_gradient, flat_gradient, hessian_product, line_search
from pgrun.errors import UserError
from pgrun.optim import GradientStep, flatten_parameters
from pgrun.types import Transition, mask_mean


class CriticFit(Protocol):
    """A way to fit V_φ to the targets V̂ of a rollout."""

    def prepare(self, algorithm: FittedCritic) -> GradientStep | None:
        """Once the networks are in place; -> the gradient step that it takes, if it takes any."""

    def __call__(self, algorithm: FittedCritic, batch: Transition) -> dict[str, Tensor]:
        """Fit; the rollout [T, B] has `target` in its extras. -> metrics, with `loss/value`, ½ mean (V − V̂)²."""


class FittedCritic(OnPolicy):
    """An on-policy algorithm that steps its policy along the gradient of E[ρ_t Ψ_t], then fits its critic.

    A subclass writes `improve`. Advantages are taken before the fit, so the critic never sees what it weighs.
    """

    adds_correction = True

    def __init__(self, *, critic_fit: CriticFit, normalize: str, entropy_coef: float, **common: Any) -> None:
        super().__init__(**common)
        name = type(self).__name__.lower()
        if self.model.shared:
            raise UserError(
                f"algo={name} steps the policy and fits the critic apart, which one trunk for both can't be: "
                "network.shared=true must be network.shared=false"
            )
        if normalize == "episode" and not common["whole_episodes"]:
            raise UserError("algo.normalize=episode needs whole episodes: add collector=episodes, or use batch or none")
        if normalize != "none" and not self.advantage.of_rewards:
            raise UserError(
                f"algo.normalize={normalize} leaves nothing of a Ψ that is always 1; use algo.normalize=none"
            )
        self.normalize, self.entropy_coef = normalize, entropy_coef
        self.actor = list(self.model.actor.parameters())
        self.critic_fit = critic_fit
        self.value_step = None if self.model.critic is None else critic_fit.prepare(self)

    def weigh(self, batch: Transition, value: Tensor) -> tuple[Tensor, Tensor]:
        psi, target = super().weigh(batch, value)
        return NORMALIZE[self.normalize](psi, batch.last, batch.valid), target

    def update(self, batch: Transition) -> dict[str, Tensor]:
        batch = self.estimate(batch)
        metrics = self.improve(batch)
        if self.model.critic is not None:
            metrics |= self.critic_fit(self, batch)
        value, target = batch.extras["value"], batch.extras["target"]
        metrics["value/explained_variance"] = losses.explained_variance(value, target, batch.valid)
        self.model.observe(batch)
        return metrics

    def improve(self, batch: Transition) -> dict[str, Tensor]:
        """The policy's step, from a rollout [T, B] as `estimate` returns it; -> metrics."""
        raise NotImplementedError

    def sample(self, batch: Transition, size: int | None = None) -> Transition:
        """All of a rollout [T, B], or `size` random steps of it: rows [M], or sequences of a network with a memory."""
        extras = dict(batch.extras)
        constant = {key: extras.pop(key) for key in ("correction",) if key in extras}  # not of steps
        part = next(self.minibatches(batch._replace(extras=extras), 1, size or batch.reward.numel()))
        return part._replace(extras=part.extras | constant)

    def surrogate(self, batch: Transition) -> tuple[Tensor, Any]:
        """L(θ) = E[ρ_t Ψ_t] and the entropy bonus, whose gradient at θ_old is the policy gradient; 0-dim. And π_θ."""
        pi = self.model.policy(batch)
        ratio = (pi.log_prob(batch.action) - batch.extras["log_prob"]).exp()  # ρ_t
        objective = mask_mean(ratio * batch.extras["psi"], batch.valid) - self.correction(batch)
        if self.entropy_coef:
            objective = objective + self.entropy_coef * mask_mean(pi.entropy(), batch.valid)
        return objective, pi

    def value_loss(self, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """½ mean (V − V̂)² on rows [M] or sequences [L, M]."""
        error = losses.value_error(self.model.value(batch), batch.extras["target"])
        loss = mask_mean(error, batch.valid)
        return loss, {"loss/value": loss.detach()}


@dataclass(kw_only=True)
class Regression:
    """Epochs of minibatches on ½ mean (V − V̂)², with the optimizer of the run."""

    epochs: int
    minibatch: int
    lr: float | None

    def prepare(self, algorithm: FittedCritic) -> GradientStep:
        assert algorithm.model.critic is not None
        given = {} if self.lr is None else {"lr": self.lr}
        return GradientStep(
            algorithm,
            algorithm.model.critic.parameters(),
            algorithm.value_loss,
            partial(algorithm.optimizer, **given),
            max_grad_norm=algorithm.max_grad_norm,
            compile=algorithm.compile_steps,
            name="value",
            fisher=algorithm.fisher,
        )

    def __call__(self, algorithm: FittedCritic, batch: Transition) -> dict[str, Tensor]:
        assert algorithm.value_step is not None
        needed = {key: batch.extras[key] for key in ("target", "carry") if key in batch.extras}
        batch = batch._replace(extras=needed)
        every = [algorithm.value_step(part) for part in algorithm.minibatches(batch, self.epochs, self.minibatch)]
        return {key: torch.stack([each[key] for each in every]).mean() for key in every[0]}


@dataclass(kw_only=True)
class TrustRegion:
    """One Gauss-Newton step on ½ mean (V − V̂)² under mean (V − V_old)²/(2σ²) ≤ δ, with σ² = mean (V_old − V̂)².

    Schulman et al. 2016, https://arxiv.org/abs/1506.02438, section 5: the trust region of N(V, σ²) as a distribution.
    The step goes to the boundary, or to the minimum where that is nearer, and back where V bends.
    """

    delta: float
    cg_iterations: int
    cg_tolerance: float
    damping: float

    def prepare(self, algorithm: FittedCritic) -> None:
        assert algorithm.model.critic is not None
        self.parameters = list(algorithm.model.critic.parameters())
        self.phi = flatten_parameters(self.parameters)

    def __call__(self, algorithm: FittedCritic, batch: Transition) -> dict[str, Tensor]:
        batch = algorithm.sample(batch)
        target, valid, v = batch.extras["target"], batch.valid, algorithm.model.value(batch)
        v_old = v.detach()
        sigma2 = mask_mean((v_old - target).square(), valid).clamp(min=1e-12)  # σ²

        def error(v: Tensor) -> Tensor:  # the objective, ½ at V_old
            return mask_mean((v - target).square(), valid) / (2.0 * sigma2)

        def distance(v: Tensor) -> Tensor:  # what δ, the paper's ε, bounds
            return mask_mean((v - v_old).square(), valid) / (2.0 * sigma2)

        g = -flat_gradient(error(v), self.parameters, keep=True)
        h = hessian_product(distance(v), self.parameters)  # H/σ², H = (1/N) Σ jjᵀ with j = ∇V
        s = conjugate_gradient(h, g, iterations=self.cg_iterations, tolerance=self.cg_tolerance, damping=self.damping)
        alpha = boundary(s, g, self.delta).clamp(max=1.0)  # 1 is the minimum of the quadratic

        def accept() -> bool:
            v = algorithm.model.value(batch)
            return bool((distance(v) <= self.delta * (1.0 + 1e-3)) & (error(v) < 0.5))  # 1e-3: rounding

        fraction = line_search(self.phi, alpha * s, accept, shrink=0.5, tries=10)
        with torch.no_grad():
            after = distance(algorithm.model.value(batch))
        return {
            "loss/value": 0.5 * sigma2,
            "value/distance": after,
            "value/step_fraction": after.new_tensor(fraction),
        }
