"""Actor-critic with experience replay."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.algos.parts.acer_critics import ActorQ
from pgrun.algos.parts.rates import critics_rate
from pgrun.algos.parts.stochastic_policy import StochasticPolicy
from pgrun.algos.parts.target_update import target_update
from pgrun.config.ranges import Count, Decay, NotNegative, Positive, Scheduled
from pgrun.core.importance import retrace
from pgrun.core.losses import explained_variance
from pgrun.core.projection import project_to_trust_region
from pgrun.data.types import Transition, mask_mean
from pgrun.nn.distributions import Distribution
from pgrun.optim.gradient_step import slow_copy


class ACER(StochasticPolicy):
    """Actor-critic with replay of trajectories, Retrace, and a trust region around an average policy.

    Wang et al. 2017, https://arxiv.org/abs/1611.01224, algorithm 2, and 3 for continuous actions. Importance weights
    are truncated, with bias correction. The trust region bounds φ: the policy's probabilities, or its means and log σ.

    Args:
        rollout: T, steps in each environment between updates.
        truncation: c, at which importance weights are truncated; what they lose, the bias correction gives back.
        trust_region: δ, how far along the gradient of the KL from the average policy a step may go.
        average_decay: α, how slowly the average policy follows; null: target_every says when.
        target_every: updates from one hard copy θ_a ← θ to the next, a policy of before as the centre of the trust
            region; null: it follows by average_decay.
        draws: n actions, by which a dueling critic centres its advantages; for continuous actions.
        entropy_coef: weight of the entropy bonus.
        value_coef: weight of the critic's loss, ½ of squared errors.
        critic_lr: α^w, the critic's learning rate; null: the optimizer's.
    """

    action_spaces = (gym.spaces.Discrete, gym.spaces.Box)
    learns_from = "rollouts"
    own_steps = True  # their distribution is recorded
    compares = True
    model: ActorQ

    def __init__(
        self,
        *,
        rollout: Count,
        truncation: Positive,
        trust_region: Scheduled[NotNegative],
        average_decay: Decay | None,
        draws: Count,
        entropy_coef: Scheduled[NotNegative],
        value_coef: Scheduled[NotNegative],
        critic_lr: Scheduled[Positive] | None = None,
        target_every: Count | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.rollout = rollout  # T, which the collector takes
        self.c, self.alpha = truncation, average_decay
        share = None if average_decay is None else 1.0 - average_decay
        self.target_update = target_update(share, target_every, key="average_decay")
        self.delta = self.coefficient("delta", trust_region)
        self.entropy_coef = self.coefficient("entropy_coef", entropy_coef)
        self.value_coef = self.coefficient("value_coef", value_coef)
        self.model = ActorQ(self.network, self.obs_space, self.action_space, draws, rollout)
        self.settle()
        self.average, self.theta_average = slow_copy(self.model.actor)  # θ_a
        apart = critics_rate(self.model, critic_lr)
        self.step = self.gradient_step(self.model.parameters(), self.loss, apart=apart)

    def record(self, pi: Distribution, action: Tensor) -> dict[str, Tensor]:
        """Record the parameters of μ, the policy that acted; see `StochasticPolicy.record`."""
        return {"pi": pi.params()}

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Step once on a rollout, and move the average policy; see `Algorithm.update`."""
        batch, metrics = self.estimate(batch)
        metrics |= self.step(batch)
        learned = self.step.theta[: self.theta_average.numel()]
        self.target_update([(self.theta_average, learned)])  # θ_a ← αθ_a + (1−α)θ
        self.model.observe(batch)
        for average, own in zip(self.average.buffers(), self.model.actor.buffers(), strict=True):
            average.copy_(own)
        return metrics

    @torch.no_grad()
    def estimate(self, batch: Transition) -> tuple[Transition, dict[str, Tensor]]:
        """Compute what the loss needs of a rollout [T, B]: z, Q^ret, V's target and the critic's noise, in extras."""
        noise = self.model.q.noise(batch)
        pi, judged = self.model.judged(batch, noise)
        q, v = judged.q, judged.v
        mu = pi.like(batch.extras["pi"])
        log_rho = pi.log_prob(batch.action) - mu.log_prob(batch.action)
        trace = (log_rho / self.model.q.dimensions).exp().clamp(max=1.0)  # c_t = min(1, ρ_t^{1/d})
        steps = (batch.reward, batch.discount, batch.last, self.model.next_value(batch), q)
        q_ret = retrace(*steps, trace, self.gamma)  # eq. 5
        q_opc = q_ret if self.model.q.corrected else retrace(*steps, torch.ones_like(q), self.gamma)
        rho, rho_of = log_rho.exp(), (log_probs(pi, judged.actions) - log_probs(mu, judged.actions)).exp()
        weight = rho.clamp(max=self.c) * (q_opc - v)
        correction = judged.share * (1.0 - self.c / rho_of).clamp(min=0.0) * (judged.q_of - v)
        with torch.enable_grad():
            phi = pi.statistics().detach().requires_grad_()
            f = pi.of_statistics(phi)
            gain = weight * f.log_prob(batch.action) + (correction * f.log_prob(judged.actions)).sum(0)  # eq. 9
            (g,) = torch.autograd.grad((gain + self.entropy_coef * f.entropy()).sum(), phi)
            kl = f.kl_from(self.average_policy(batch))
            (k,) = torch.autograd.grad(kl.sum(), phi)
        z = project_to_trust_region(g, k, self.delta)  # eq. 13
        terms = {"z": z, "q_ret": q_ret, "v_target": v + rho.clamp(max=1.0) * (q_ret - q), "noise": noise.movedim(0, 2)}
        return batch._replace(extras={**batch.extras, **terms}), {
            "policy/entropy": mask_mean(pi.entropy(), batch.valid),
            "policy/kl_average": mask_mean(kl.detach(), batch.valid),
            "policy/projected": mask_mean((z != g).any(-1).to(q.dtype), batch.valid),
            "policy/importance_weight": mask_mean(rho.clamp(max=self.c), batch.valid),
            "value/explained_variance": explained_variance(q, q_ret, batch.valid),
        }

    def average_policy(self, batch: Transition) -> Any:
        """Return f(·|φ_{θ_a}), the average policy at a rollout's states."""
        return self.average.head(self.average.encoder.along(batch, self.model.slots[0]), batch.obs)

    def loss(self, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −zᵀφ, whose gradient is −z ∂φ/∂θ, plus the critic's error, on a rollout [T, B]."""
        extras = batch.extras
        pi, judged = self.model.judged(batch, extras["noise"].movedim(2, 0))
        policy = -mask_mean((extras["z"] * pi.statistics()).sum(-1), batch.valid)
        critic = mask_mean(self.model.q.error(judged, extras["q_ret"], extras["v_target"]), batch.valid)
        return policy + self.value_coef * critic, {"loss/value": critic.detach()}


def log_probs(pi: Distribution, actions: Tensor) -> Tensor:
    """Compute log π(a|s_t) of several actions [m, T, B, *A] at each state, [m, T, B]."""
    params = pi.params()
    return pi.like(params.expand(actions.shape[0], *params.shape)).log_prob(actions)
