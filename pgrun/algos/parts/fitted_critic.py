"""On-policy algorithms that learn policy and critic apart: the policy takes its step, then the critic is fitted."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from pgrun.algos.parts.critic_fit import CriticFit
from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.algos.parts.rates import check_apart
from pgrun.config.ranges import NotNegative, Scheduled
from pgrun.core import losses
from pgrun.core.normalization import NORMALIZE
from pgrun.data.types import Transition, mask_mean
from pgrun.errors import UserError
from pgrun.nn.distributions import Distribution


class FittedCritic(OnPolicy):
    """An on-policy algorithm that steps its policy along the gradient of E[ρ_t Ψ_t], then fits its critic.

    A subclass writes `improve`. Advantages are computed before the fit, so they don't depend on it.

    Args:
        critic_fit: how V is fitted once the policy has made its step.
        normalize: Ψ_t before the step: none; episode: by each episode's mean and deviation; batch: by the rollout's.
        entropy_coef: weight of the entropy bonus.
    """

    adds_correction = True

    def __init__(
        self,
        *,
        critic_fit: CriticFit,
        normalize: Literal["none", "episode", "batch"],
        entropy_coef: Scheduled[NotNegative],
        **common: Any,
    ) -> None:
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
        self.normalize, self.rewards_entropy = normalize, entropy_coef != 0
        self.entropy_coef = self.coefficient("entropy_coef", entropy_coef)
        self.actor = list(self.model.actor.parameters())
        check_apart(self, self.actor, [] if self.model.critic is None else self.model.critic.parameters())
        self.critic_fit = critic_fit
        self.value_step = None if self.model.critic is None else critic_fit.prepare(self)

    def advantages_and_targets(self, batch: Transition, value: Tensor) -> tuple[Tensor, Tensor]:
        """Compute Ψ_t and the critic's target, and normalise Ψ_t; see `OnPolicy.advantages_and_targets`."""
        psi, target = super().advantages_and_targets(batch, value)
        return NORMALIZE[self.normalize](psi, batch.last, batch.valid, self.weight_inside(batch)), target

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Improve the policy, then fit the critic; see `Algorithm.update`."""
        batch = self.estimate(batch)
        metrics = self.improve(batch)
        if self.model.critic is not None:
            metrics |= self.critic_fit(self, batch)
        value, target = batch.extras["value"], batch.extras["target"]
        metrics["value/explained_variance"] = losses.explained_variance(value, target, batch.valid)
        self.model.observe(batch)
        return metrics

    def improve(self, batch: Transition) -> dict[str, Tensor]:
        """Step the policy along a rollout [T, B] as `estimate` returns it; return metrics."""
        raise NotImplementedError

    def sample(self, batch: Transition, size: int | None = None) -> Transition:
        """Pick `size` random steps of a rollout [T, B], or all of it.

        Returns:
            Rows [M], or sequences where the network is recurrent.
        """
        extras = dict(batch.extras)
        constant = {key: extras.pop(key) for key in ("correction",) if key in extras}  # one vector, not a row a step
        part = next(iter(self.minibatches(batch._replace(extras=extras), 1, size)))
        return part._replace(extras=part.extras | constant)

    def surrogate(self, batch: Transition) -> tuple[Tensor, Distribution]:
        """Compute L(θ) = E[ρ_t Ψ_t] plus the entropy bonus, 0-dim, and π_θ.

        The gradient of L at θ_old is the policy gradient.
        """
        pi = self.model.policy(batch)
        ratio = (pi.log_prob(batch.action) - batch.extras["log_prob"]).exp()  # ρ_t
        objective = mask_mean(ratio * batch.extras["psi"], batch.valid) - self.correction(batch)
        if self.rewards_entropy:
            objective = objective + self.entropy_coef * mask_mean(pi.entropy(), batch.valid)
        return objective, pi
