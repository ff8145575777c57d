"""A frozen reference policy that the learned one stays near, for fine-tuning."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pgrun.algos.parts.loading import take
from pgrun.core import losses
from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.nn import ActorCritic


class Reference(nn.Module):
    """A penalty coef · KL(π‖π_ref), estimated from the actions that were taken.

    Schulman, http://joschu.net/blog/kl-approx.html: the estimates k1 and k3 of the log ratio have the right mean under
    π.

    In the loss, the gradient must also go through the distribution that the actions are drawn from. A plain mean over
    actions of π_old forgets that: at π = π_old its gradient is zero for k1 and the reverse KL's for k3. So each
    estimate is weighted by ρ = π/π_old. In the reward, k1's score-function gradient is ∇KL(π‖π_ref), k3's is
    ∇KL(π‖π_ref) − ∇KL(π_ref‖π).

    Args:
        model: the learner's; the frozen copy has its shape.
        run: whose policy it is.
        coef: the penalty's weight; a 0-dim tensor where it follows a schedule.
        estimator: "k1" or "k3".
        into: "loss" or "reward".
    """

    def __init__(self, model: ActorCritic, *, run: str, coef: float | Tensor, estimator: str, into: str) -> None:
        super().__init__()
        if model.recurrent:
            raise UserError("algo.reference can't be followed by a network with a memory; use network=mlp or cnn")
        self.actor = deepcopy(model.actor).requires_grad_(False)
        self.run, self.coef, self.estimator, self.into = run, coef, estimator, into

    def load(self, tensors: dict[str, Any]) -> None:
        """Load the policy from a run's tensors."""
        take(self.actor, tensors, f"algo.reference={self.run}")

    @torch.no_grad()
    def see(self, batch: Transition, model: ActorCritic) -> Transition:
        """Add log π_ref(a|s) to a rollout's extras, and subtract the penalty from its rewards if it goes there.

        Then `extras["penalty"]` holds it, too.
        """
        log_prob_ref = self.actor(batch.obs).log_prob(batch.action)
        extras = {**batch.extras, "log_prob_ref": log_prob_ref}
        if self.into != "reward":
            return batch._replace(extras=extras)
        kl = losses.kl_estimate(log_prob_ref - model.policy(batch).log_prob(batch.action), self.estimator)
        extras["penalty"] = penalty = self.coef * kl
        return batch._replace(reward=batch.reward - penalty, extras=extras)

    def penalty(self, sample: Transition, log_prob: Tensor, ratio: Tensor) -> Tensor:
        """Return the penalty's term of the loss for each row, [...]."""
        if self.into == "reward":
            return torch.zeros_like(ratio)
        return self.coef * ratio * losses.kl_estimate(sample.extras["log_prob_ref"] - log_prob, self.estimator)
