"""A frozen policy to stay near, as fine-tuning uses it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pgrun.algos.parts.base import take
from pgrun.core import losses
from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.nn import ActorCritic


class Reference(nn.Module):
    """A penalty coef · KL(π‖π_ref), estimated from the actions that were taken.

    Schulman, http://joschu.net/blog/kl-approx.html: k1 and k3 of the log ratio are right in the mean under π. As losses
    they are differentiated through the distribution too, which a plain mean over actions of π_old forgets (its gradient
    is zero for k1 and the reverse KL's for k3 at π = π_old); so each is weighted by ρ = π/π_old. In the reward, k1's
    score-function gradient is ∇KL(π‖π_ref); k3's is ∇KL(π‖π_ref) − ∇KL(π_ref‖π).

    Args:
        model: the learner's; the frozen copy has its shape.
        run: whose policy it is.
        coef: the penalty's weight.
        estimator: "k1" or "k3".
        into: "loss" or "reward".
    """

    def __init__(self, model: ActorCritic, *, run: str, coef: float, estimator: str, into: str) -> None:
        super().__init__()
        if model.recurrent:
            raise UserError("algo.reference can't be followed by a network with a memory; use network=mlp or cnn")
        self.actor = deepcopy(model.actor).requires_grad_(False)
        self.run, self.coef, self.estimator, self.into = run, coef, estimator, into

    def load(self, tensors: dict[str, Any]) -> None:
        """Take the policy of a run's tensors."""
        take(self.actor, tensors, f"algo.reference={self.run}")

    @torch.no_grad()
    def see(self, batch: Transition, model: ActorCritic) -> Transition:
        """Note log π_ref(a|s) in a rollout's extras, and take the penalty off its rewards if it goes there.

        Then it is in extras["penalty"], too.
        """
        log_prob_ref = self.actor(batch.obs).log_prob(batch.action)
        extras = {**batch.extras, "log_prob_ref": log_prob_ref}
        if self.into != "reward":
            return batch._replace(extras=extras)
        kl = losses.kl_estimate(log_prob_ref - model.policy(batch).log_prob(batch.action), self.estimator)
        extras["penalty"] = penalty = self.coef * kl
        return batch._replace(reward=batch.reward - penalty, extras=extras)

    def penalty(self, sample: Transition, log_prob: Tensor, ratio: Tensor) -> Tensor:
        """What goes into the loss for each row, [...]."""
        if self.into == "reward":
            return torch.zeros_like(ratio)
        return self.coef * ratio * losses.kl_estimate(sample.extras["log_prob_ref"] - log_prob, self.estimator)
