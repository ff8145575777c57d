"""On-policy maximum a posteriori policy optimisation."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.algos.parts.rates import critics_rate
from pgrun.config.ranges import Count, Positive, Scheduled
from pgrun.core import losses, ranks
from pgrun.core.normalization import normalize
from pgrun.core.top_half import top_half_weights
from pgrun.data.types import Transition, mask_mean
from pgrun.nn.distributions import Gaussian


class VMPO(OnPolicy):
    """Maximum likelihood of the better half of the actions, weighted by exp(A/η), near the policy that acted.

    Song et al. 2020, https://arxiv.org/abs/1909.12238, with advantages normalised in each minibatch for PopArt.

    Args:
        epochs: passes over a rollout; after them the policy that acts, the paper's target network, is renewed.
        minibatch: rows a gradient step, of which the better half counts.
        epsilon_eta: ε_η, how far ψ may be from equal weights, in nats.
        epsilon_alpha: ε_α, how far the policy may go from the one that acted, in nats; of a Gaussian, its mean.
        epsilon_covariance: ε_α of a Gaussian's covariance.
        init_alpha: α at the start.
        critic_lr: α^w, the critic's learning rate; null: the optimizer's.
    """

    def __init__(
        self,
        *,
        epochs: Count,
        minibatch: Count,
        epsilon_eta: Positive,
        epsilon_alpha: Positive,
        epsilon_covariance: Positive,
        init_alpha: Positive,
        critic_lr: Scheduled[Positive] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.epochs, self.minibatch, self.epsilon_eta = epochs, minibatch, epsilon_eta
        gaussian = isinstance(self.action_space, gym.spaces.Box)
        self.epsilon_alpha = torch.tensor([epsilon_alpha, epsilon_covariance][: 1 + gaussian], device=self.device)
        self.log_eta = nn.Parameter(torch.zeros((), device=self.device))  # in standard deviations of A
        self.log_alpha = nn.Parameter(torch.full_like(self.epsilon_alpha, init_alpha).log())
        everything, apart = (
            [*self.model.parameters(), self.log_eta, self.log_alpha],
            critics_rate(self.model, critic_lr),
        )
        self.step = self.gradient_step(everything, self.loss, apart=apart)

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Take the epochs on a rollout; see `Algorithm.update`."""
        batch = self.estimate(batch)
        metrics = self.step.each(self.minibatches(batch, self.epochs, self.minibatch))
        self.model.observe(batch)
        return metrics

    def loss(self, sample: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute L_V + L_π + L_η + L_α, on rows [M] or sequences [L, M]."""
        valid, eta, alpha = sample.valid, self.log_eta.exp(), self.log_alpha.exp()
        pi, value = self.model(sample)
        with torch.no_grad():
            a, n = normalize(sample.extras["psi"], valid), ranks.total(valid.sum())
            psi, kl_psi = top_half_weights(a, valid, eta)  # ψ(s, a), eq. 3
        l_pi = mask_mean(-n * psi * pi.log_prob(sample.action), valid)  # −Σ ψ log π(a|s), eq. 3
        l_eta = eta * (self.epsilon_eta - kl_psi)  # its gradient is that of eq. 4
        kl = self.divergence(pi, sample)
        l_alpha = (alpha * (self.epsilon_alpha - kl.detach()) + alpha.detach() * kl).sum()  # eq. 5
        l_v = mask_mean(losses.value_error(value, sample.extras["target"]), valid)  # eq. 6
        metrics = {"loss/policy": l_pi, "loss/value": l_v, "policy/entropy": mask_mean(pi.entropy(), valid)}
        metrics |= {"policy/kl": kl.sum(), "policy/kl_psi": kl_psi, "policy/eta": eta, "policy/alpha": alpha.mean()}
        return l_v + l_pi + l_eta + l_alpha, {key: x.detach() for key, x in metrics.items()}

    def divergence(self, pi: Any, sample: Transition) -> Tensor:
        """Compute E[KL(π_old‖π)], [1]; of Gaussians one for the mean, one for the covariance, eq. 25 to 27, [2]."""
        old = pi.like(sample.extras["pi"])
        apart = [Gaussian(pi.mean, old.log_std), Gaussian(old.mean, pi.log_std)] if isinstance(pi, Gaussian) else [pi]
        return torch.stack([mask_mean(old.kl(other), sample.valid) for other in apart])
