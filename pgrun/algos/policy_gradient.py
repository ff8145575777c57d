"""The score-function family: REINFORCE, REINFORCE with a baseline, actor-critic, A2C. They differ by Ψ_t."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.algos.parts.rates import critics_rate
from pgrun.config.ranges import NotNegative, Positive, Scheduled
from pgrun.core import losses, ranks
from pgrun.core.normalization import NORMALIZE, steps_weight
from pgrun.data.types import Carry, Obs, Transition, mean_over, pad, time_step
from pgrun.errors import UserError


class PolicyGradient(OnPolicy):
    """The policy gradient ∇J = E[Σ_t ∇log π(a_t|s_t) Ψ_t], with one joint loss of policy and critic.

    It takes one step a rollout, or one at each t of whole episodes.

    - REINFORCE: Williams 1992, https://doi.org/10.1007/BF00992696.
    - Actor-critic: Sutton et al. 2000, https://papers.nips.cc/paper/1713.
    - A2C: the synchronous form of Mnih et al. 2016, https://arxiv.org/abs/1602.01783, algorithm S3.

    Args:
        update: after a rollout, or after each of its steps in turn.
        discount_states: weigh step t of an episode by γ^t, as the policy gradient theorem has it.
        normalize: Ψ_t before the step: none; episode: by each episode's mean and deviation; batch: by the rollout's.
        reduce: a mean over rows (steps), or over episodes of their sums (sum) or means (mean).
        entropy_coef: weight of the entropy bonus.
        value_coef: weight of the value loss ½ (V − V̂)².
        critic_lr: α^w, the critic's learning rate; null: the optimizer's.
    """

    adds_correction = True

    def __init__(
        self,
        *,
        update: Literal["rollout", "step"],
        discount_states: bool,
        normalize: Literal["none", "episode", "batch"],
        reduce: Literal["rows", "sum", "mean"],
        entropy_coef: Scheduled[NotNegative],
        value_coef: Scheduled[NotNegative],
        critic_lr: Scheduled[Positive] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.every_step, self.discount_states = update == "step", discount_states
        self.normalize, self.reduce = normalize, reduce
        self.entropy_coef = self.coefficient("entropy_coef", entropy_coef)
        self.value_coef = self.coefficient("value_coef", value_coef)
        if wrong := self.contradiction(common["whole_episodes"]):
            raise UserError(wrong)
        # compute Ψ before the loss where it takes more than the loss's own forward pass, or serves several steps
        self.ahead = self.every_step or self.baseline.needs_scores
        apart = critics_rate(self.model, critic_lr)
        self.step = self.gradient_step(self.model.parameters(), self.loss, apart=apart)

    def contradiction(self, whole_episodes: bool) -> str | None:
        """Describe what is wrong with the settings, or return None."""
        if self.discount_states and self.advantage.discounted:
            return (
                "algo.discount_states=true: algo/advantage=total_return has the factor γ^t already; "
                "use algo.discount_states=false, or algo/advantage=reward_to_go, td, nstep, gae, q or a"
            )
        if self.normalize != "none" and not self.advantage.of_rewards:
            return f"algo.normalize={self.normalize} leaves nothing of a Ψ that is always 1; use algo.normalize=none"
        if self.every_step and (self.reduce != "rows" or self.baseline.per_parameter):
            what = "algo.baseline.per_parameter=true" if self.reduce == "rows" else f"algo.reduce={self.reduce}"
            return f"{what} is of sums over an episode, and algo.update=step never sums; use algo.update=rollout"
        for key, value, anywhere in (
            ("update", "step" if self.every_step else "rollout", "rollout"),
            ("reduce", self.reduce, "rows"),
            ("normalize", self.normalize if self.normalize == "episode" else "", ""),
        ):
            if value != anywhere and not whole_episodes:
                return (
                    f"algo.{key}={value} needs whole episodes: add collector=episodes, "
                    f"or use algo.{key}={anywhere or 'none or batch'}"
                )
        return None

    def initial_carry(self, num_envs: int) -> Carry:
        """Start I = γ^0 beside the network's state; see `Algorithm.initial_carry`."""
        carry = super().initial_carry(num_envs)
        return (*carry, torch.ones(num_envs, device=self.device)) if self.discount_states else carry

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Act, and carry I = γ^t along if states are discounted; see `Algorithm.act`."""
        if not self.discount_states:
            return super().act(obs, carry, explore)
        *memory, i = carry
        action, after, extras = super().act(obs, tuple(memory), explore)
        # I ← γI, Sutton & Barto 2018, section 13.5: it goes on across rollouts and starts anew in each episode
        return action, (*after, self.gamma * i), {**extras, "I": i}

    def advantages_and_targets(self, batch: Transition, value: Tensor) -> tuple[Tensor, Tensor]:
        """Compute Ψ_t and the target, and normalise Ψ_t; see `OnPolicy.advantages_and_targets`."""
        psi, target = super().advantages_and_targets(batch, value)
        return NORMALIZE[self.normalize](psi, batch.last, batch.valid, self.weight_inside(batch)), target

    def factor(self, batch: Transition) -> Tensor:
        """Compute I_t times the factor that makes the loss's mean the chosen reduction, [T, B]."""
        factor = steps_weight(batch.last, batch.valid, self.reduce)
        return factor * batch.extras["I"] if self.discount_states else factor

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Take one step on a rollout, or one at each t; see `Algorithm.update`."""
        batch = self.estimate(batch) if self.ahead else self.scaled(batch)
        if self.every_step:  # Sutton & Barto 2018, section 13.3: θ moves at each t in turn, Ψ stays
            batch = pad(batch, ranks.largest_count(len(batch.reward)))
            results = [self.step(time_step(batch, t)) for t in range(len(batch.reward))]
            metrics = {key: torch.stack([result[key] for result in results]).mean() for key in results[0]}
        else:
            metrics = self.step(batch)
        self.model.observe(batch)
        return metrics

    def loss(self, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the pseudo-loss whose gradient is the estimator's, plus value and entropy terms, of a rollout."""
        mean, extras = mean_over(batch.valid), batch.extras
        pi, value = self.model(batch)
        with torch.no_grad():
            if self.ahead:
                psi, target = extras["psi"], extras["target"]
            else:
                psi, target = self.advantages_and_targets(batch, value.detach())  # Ψ_t and the critic's target
                psi = psi * self.factor(batch)
            explained = losses.explained_variance(value, target, batch.valid)
        policy = mean(losses.policy_gradient(pi.log_prob(batch.action), psi))  # −E[log π(a|s) Ψ]
        entropy = mean(pi.entropy())
        critic = mean(losses.value_error(value, target))
        total = policy + self.correction(batch) + self.value_coef * critic - self.entropy_coef * entropy
        return total, {
            "loss/policy": policy.detach(),
            "loss/value": critic.detach(),
            "policy/entropy": entropy.detach(),
            "value/explained_variance": explained,
        }
