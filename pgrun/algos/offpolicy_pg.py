"""The policy gradient from data of other policies: its own older ones, or those of demonstrations."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from pgrun.algos.policy_gradient import PolicyGradient
from pgrun.config.ranges import Positive
from pgrun.core.advantages import Returns
from pgrun.core.importance import WEIGHTS, importance_weights, v_trace
from pgrun.core.normalization import NORMALIZE
from pgrun.data.types import Carry, Obs, Transition, mask_mean
from pgrun.errors import UserError


class OffPolicyPG(PolicyGradient):
    """Policy gradient with importance weights w_t: ∇J = E_μ[Σ_t w_t ∇log π(a_t|s_t) Ψ_t].

    All else is as in `PolicyGradient`. Trajectory and per-decision weights: Precup et al. 2000,
    https://scholarworks.umass.edu/cs_faculty_pubs/80; ρ_t alone: Degris et al. 2012, https://arxiv.org/abs/1205.4839.
    With Ψ = 1 and no weights: behaviour cloning.

    Args:
        weights: importance weights: trajectory, per_decision (what came before a reward alone), per_step (of the one
            action; biased) or none.
        self_normalize: divide weights by their mean: biased, but consistent, and never far off in size.
        weight_clip: the most that a weight may be; biased then; null: no limit.
    """

    def __init__(
        self,
        *,
        weights: Literal["trajectory", "per_decision", "per_step", "none"],
        self_normalize: bool,
        weight_clip: Positive | None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if weights not in WEIGHTS:
            raise UserError(f"algo.weights={weights} is not known; choose one of {', '.join(WEIGHTS)}")
        self.weights, self.self_normalize, self.weight_clip = weights, self_normalize, weight_clip
        if self.advantage.critic != "v":
            raise UserError(
                f"algo/advantage={self.advantage.critic} is a learned Q or advantage, and importance weights correct "
                "returns; with algo=offpolicy_pg use algo/advantage=gae, reward_to_go or another form with a V"
            )
        if weights != "none" and self.advantage.corrects:
            raise UserError(
                f"algo/advantage=vtrace, alone or in a mixture, has importance weights of its own, which algo.weights="
                f"{weights} would count twice: use algo.weights=none, or algo/advantage=gae"
            )
        if weights == "per_decision" and self.advantage.discounted:
            raise UserError(
                "algo.weights=per_decision weighs a reward by the actions before it, and algo/advantage=total_return "
                "counts rewards that come before the action; use algo/advantage=reward_to_go"
            )
        self.checked = False

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Act as PolicyGradient does, and record log μ(a_t|s_t); see `Algorithm.act`."""
        action, after, extras = super().act(obs, carry, explore)
        if not explore:
            return action, after, extras
        pi, _ = self.model.step(obs, carry[: len(carry) - self.discount_states])
        return action, after, {**extras, "log_prob": pi.log_prob(action)}  # log μ(a_t|s_t)

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Weigh the batch, learn, and measure the weights; see `Algorithm.update`."""
        batch = self.prepared(batch)
        metrics = super().update(batch)
        w = batch.extras["weight"]
        metrics["policy/importance_weight"] = mask_mean(w, batch.valid)
        metrics["policy/effective_samples"] = w.sum().square() / w.square().sum() / batch.valid.sum()  # as a share
        return metrics

    def prepared(self, batch: Transition) -> Transition:
        """Add `log_ratio`, log ρ_t, and `weight`, w_t, to a batch's extras."""
        log_ratio = self.log_ratio(batch)
        w = importance_weights(
            self.weights,
            log_ratio,
            batch.last,
            batch.valid,
            self_normalize=self.self_normalize,
            clip=self.weight_clip,
        )
        return batch._replace(extras={**batch.extras, "weight": w, "log_ratio": log_ratio})

    @torch.no_grad()
    def log_ratio(self, batch: Transition) -> Tensor:
        """Compute log ρ_t, [T, B]; 0 without importance weights, be they Ψ's own."""
        if self.weights == "none" and not self.advantage.corrects:
            return torch.zeros_like(batch.reward)
        if self.advantage.corrects and not self.checked:
            self.check_behaviour(batch)
        log_ratio = self.model.policy(batch).log_prob(batch.action) - batch.extras["log_prob"]
        if not self.checked and bool(log_ratio[batch.valid].isnan().any()):
            raise UserError(
                f"algo.weights={self.weights} needs the probabilities with which the data's actions were taken, and "
                "the data has none (log_probs); use algo.weights=none, or algo=gps, which fits them"
            )
        self.checked = True
        return log_ratio

    def advantages_and_targets(self, batch: Transition, value: Tensor) -> tuple[Tensor, Tensor]:
        """Compute Ψ_t with the weights inside it, and V-trace targets; see `OnPolicy.advantages_and_targets`."""
        last = batch.last | ~batch.valid
        next_value, log_ratio = self.model.next_value(batch), batch.extras["log_ratio"]
        # a Ψ of returns is linear in rewards and values: weighed it is Σ_{k≥t} γ^{k−t} w_k r_k − w_t V(s_t)
        inner_weight = self.weight_inside(batch)
        w = torch.ones_like(value) if inner_weight is None else inner_weight
        rho = torch.where(batch.valid, log_ratio, 0.0)
        returns = Returns(w * batch.reward, batch.discount, last, w * value, w * next_value, log_ratio=rho)
        psi, target = self.advantage(returns, self.gamma)
        psi = self.baseline(psi, last, batch.valid, inner_weight)
        if not self.advantage.corrects:  # else the target is right for π already
            target = v_trace(batch.reward, batch.discount, last, value, next_value, log_ratio, self.gamma).target
        return NORMALIZE[self.normalize](psi, batch.last, batch.valid, inner_weight), target

    def factor(self, batch: Transition) -> Tensor:
        """Multiply Ψ_t by w_t, unless it contains w_t already; see `OnPolicy.factor`."""
        factor = super().factor(batch)
        return factor if self.weight_inside(batch) is not None else factor * batch.extras["weight"]

    def weight_inside(self, batch: Transition) -> Tensor | None:
        """Return the per-decision weights that Ψ_t contains already; None if it contains none."""
        return batch.extras["weight"] if self.weights == "per_decision" and self.advantage.of_rewards else None
