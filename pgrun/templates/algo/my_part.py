"""The algorithm `my_part`: actor-critic in one loss, to start from."""

from typing import Any

from torch import Tensor

from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.data.types import Transition, mask_mean


class MyPart(OnPolicy):
    """Actor-critic in one loss: −E[log π(a|s) Ψ] + c E[(V(s) − target)²].

    Args:
        value_coef: c, the weight of the critic's loss; its value stands in algo/my_part.yaml.
        common: what every such algorithm takes: networks, optimizer, discount, advantage and baseline.
    """

    def __init__(self, *, value_coef: float, **common: Any) -> None:
        super().__init__(**common)
        self.value_coef = value_coef
        self.step = self.gradient_step(self.model.parameters(), self.loss)

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Learn from a rollout [T, B, ...]; what is returned are curves."""
        return self.step(self.estimate(batch))  # with Ψ and the critic's target in its extras

    def loss(self, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a rollout, and curves."""
        pi, value = self.model(batch)
        policy = -mask_mean(pi.log_prob(batch.action) * batch.extras["psi"], batch.valid)
        critic = mask_mean((value - batch.extras["target"]).square(), batch.valid)
        return policy + self.value_coef * critic, {"loss/policy": policy.detach(), "loss/value": critic.detach()}
