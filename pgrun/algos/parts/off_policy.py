"""What actor-critics that learn Q functions from replay share: the fit of Q, and its slow copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pgrun.algos.parts.base import Learner
from pgrun.config.ranges import Count, Share
from pgrun.data.types import Obs, Transition, report_errors
from pgrun.errors import UserError
from pgrun.nn import Recurrent
from pgrun.nn.encoders import Network
from pgrun.nn.modes import statistics
from pgrun.optim.gradient_step import slow_copy


class OffPolicy(Learner):
    """Q functions, fitted to a target that a subclass computes, and a copy that follows them slowly.

    Args:
        rollout: steps in each environment between updates, which the collector takes.
        tau: the share of the way that the target network moves at each update.
    """

    learns_from = "steps"
    target: Callable[..., Tensor]  # batch, what else `fit` was called with -> y; it draws no random numbers

    def __init__(self, *, rollout: Count, tau: Share, **common: Any) -> None:
        super().__init__(**common)
        check_network(self.network)
        self.rollout, self.tau = rollout, tau
        self.statistics: list[tuple[Tensor, Tensor]] = []  # of the slow copies, and those that they follow

    def attach_critic(self, q: nn.Module, *, target: bool = True) -> None:
        """Settle, and take q(s, a) -> [k, M] as the Q functions to learn, with a slow copy unless told otherwise."""
        self.q = q
        self.settle()
        if target:
            self.q_target, self.theta_target = slow_copy(q)
            self.statistics += statistics(self.q_target, q)
        self.critic_step = self.gradient_step(
            q.parameters(), self.critic_loss, name="critic", prepare_args=self.critic_args
        )

    def fit(self, batch: Transition, *args: Tensor) -> dict[str, Tensor]:
        """One step of every Q towards the target [M] that follows from batch and arguments; a replay that samples by
        priority learns the errors.
        """
        metrics = self.critic_step(batch, *args)
        if "weight" in batch.extras:
            report_errors(batch, metrics.pop("delta"))
        return metrics

    def critic_args(self, batch: Transition, *args: Tensor) -> tuple[Obs, Tensor, Tensor, Tensor | None]:
        """Compute the arguments of the critic loss: obs, action, target, importance weight."""
        return batch.obs, batch.action, self.target(batch, *args), batch.extras.get("weight")

    def update_targets(self) -> None:
        """Q̄ ← τQ + (1 − τ)Q̄."""
        self.theta_target.lerp_(self.critic_step.theta, self.tau)
        self.update_target_statistics()

    def update_target_statistics(self) -> None:
        """The running statistics in slow copies move the share τ of the way, too."""
        for slow, learned in self.statistics:
            slow.lerp_(learned, self.tau)

    def critic_loss(
        self, obs: Obs, action: Tensor, y: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Σ_i E[error(Q_i(s, a) − y)], each row with its importance weight [M] where the sampling was not uniform."""
        q = self.q(obs, action)  # [k, M]
        delta = q - y
        error = self.error(delta)
        metrics = {"value/q": q.detach().mean()}
        if weight is not None:
            metrics["delta"] = delta.detach().abs().amax(0)
            error = weight * error
        loss = error.mean(-1).sum()
        return loss, {"loss/critic": loss.detach(), **metrics}

    def error(self, delta: Tensor) -> Tensor:
        """How much an error δ counts: ½δ²; [k, M]."""
        return 0.5 * delta.square()

    def start_from(self, tensors: dict[str, Tensor], name: str) -> None:
        super().start_from(tensors, name)
        if any("_target." in key and key not in tensors for key in self.state_dict()):  # that run had no slow copies
            tau, self.tau = self.tau, 1.0
            self.update_targets()
            self.tau = tau


def check_network(network: Network) -> None:
    """Raise UserError where a network needs more than single steps."""
    if isinstance(network, Recurrent):
        raise UserError("a network with a memory learns from sequences, not from single steps: use network=mlp or cnn")
    if getattr(network, "normalize_obs", False):
        raise UserError(
            "network.normalize_obs=true takes its statistics from whole rollouts, which what learns from single steps "
            "does not see; use network.normalize_obs=false"
        )
