"""Parts that actor-critics with replay share: the fit of the Q functions, and their slow copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from pgrun.algos.parts.remembering import Remembering
from pgrun.algos.parts.target_update import target_update
from pgrun.config.ranges import Count, Share
from pgrun.data.types import Obs, Transition, report_errors
from pgrun.nn.modes import statistics
from pgrun.optim.gradient_step import slow_copy


class OffPolicy(Remembering):
    """An algorithm that fits Q functions to a subclass's target, and keeps a copy that follows them slowly.

    Args:
        rollout: steps in each environment between updates, which the collector takes.
        tau: the share of the way that the target network moves at each update; null: target_every says when.
        target_every: updates from one hard copy θ̄ ← θ of the target network to the next; null: it follows by tau.
    """

    learns_from = "steps"
    mixed_targets: ClassVar[bool] = False  # whether target_every may be the period of moves by tau
    target: Callable[..., Tensor]  # of a batch and the other arguments of `fit`, returns y; draws no random numbers

    def __init__(self, *, rollout: Count, tau: Share | None, target_every: Count | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.rollout, self.tau = rollout, tau
        self.target_update = target_update(tau, target_every, mixed=self.mixed_targets)
        # running statistics of the slow copies, and those of the networks that they follow
        self.statistics: list[tuple[Tensor, Tensor]] = []

    def attach_critic(self, q: nn.Module, *, target: bool = True) -> None:
        """Take a network q(s, a) that returns [k, M] as the Q functions to learn, settle, and make their step.

        Args:
            q: the Q functions.
            target: keep a slow copy of them.
        """
        self.q = q
        self.settle()
        if target:
            self.q_target, self.theta_target = slow_copy(q)
            self.statistics += statistics(self.q_target, q)
        self.critic_step = self.gradient_step(
            q.parameters(), self.critic_loss, name="critic", prepare_args=self.critic_args
        )

    def fit(self, batch: Transition, *args: Tensor) -> dict[str, Tensor]:
        """Step every Q towards the target [M] of the batch and the arguments.

        A replay that samples by priority gets the errors.
        """
        metrics = self.critic_step(batch, *args)
        if "weight" in batch.extras:
            report_errors(batch, metrics.pop("delta"))
        return metrics

    def critic_args(self, batch: Transition, *args: Tensor) -> tuple[Obs, Tensor, Tensor, Tensor | None]:
        """Compute the arguments of the critic loss: obs, action, target, importance weight."""
        return batch.obs, batch.action, self.target(batch, *args), batch.extras.get("weight")

    def targets(self) -> list[tuple[Tensor, Tensor]]:
        """Pair the slow copies' parameters and running statistics with those that they follow."""
        return [(self.theta_target, self.critic_step.theta), *self.statistics]

    def update_targets(self, due: bool = True) -> None:
        """Let the slow copies follow after an update: θ̄ ← τθ + (1 − τ)θ̄ if it is due, or θ̄ ← θ every n updates."""
        self.target_update(self.targets(), due)

    def copy_targets(self) -> None:
        """Make the slow copies equal to what they follow: θ̄ ← θ."""
        for slow, learned in self.targets():
            slow.copy_(learned)

    def critic_loss(
        self, obs: Obs, action: Tensor, y: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute Σ_i E[error(Q_i(s, a) − y)].

        Each row has its importance weight [M] where the sampling was not uniform.
        """
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
        """Return the loss of an error δ, ½δ²; [k, M]."""
        return 0.5 * delta.square()

    def start_from(self, tensors: dict[str, Tensor], name: str) -> None:
        """Start from another run; slow copies that it lacks start as copies of its networks."""
        super().start_from(tensors, name)
        if any("_target." in key and key not in tensors for key in self.state_dict()):  # that run had no slow copies
            self.copy_targets()
