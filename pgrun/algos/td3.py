"""Twin delayed deterministic policy gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.algos.parts.deterministic_policy import DeterministicReplay
from pgrun.config.ranges import Count, NotNegative, Scheduled
from pgrun.core.noise import smoothed
from pgrun.data.types import Obs, Transition
from pgrun.nn import q_functions
from pgrun.nn.critics import first


class TD3(DeterministicReplay):
    """TD3: clipped double Q-learning, a delayed policy, and target policy smoothing.

    Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477, algorithm 1.

    Args:
        critics: Q functions; targets are from the least of them.
        policy_delay: updates of the critics for each of the actor, and for each move of the targets by tau.
        target_noise: σ of what smooths the target policy.
        target_noise_clip: the most that this noise adds.
    """

    def __init__(
        self,
        *,
        critics: Count,
        policy_delay: Count,
        target_noise: Scheduled[NotNegative],
        target_noise_clip: NotNegative,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.policy_delay = policy_delay  # d
        self.smooths, self.target_noise_clip = target_noise != 0, target_noise_clip  # σ̃ > 0, c
        self.target_noise = self.coefficient("target_noise", target_noise)  # σ̃
        self.updates = 0
        self.attach_critic(q_functions(self.network, self.obs_space, self.action_space, k=critics))

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Fit the critics, and step the actor every `policy_delay` updates; see `Algorithm.update`."""
        noise = [self.target_noise * torch.randn_like(batch.action)] if self.smooths else []
        metrics = self.fit(batch, *noise)
        due = self.updates % self.policy_delay == 0
        if due:
            metrics |= self.actor_step(batch.obs)
        self.update_targets(due)
        self.updates += 1
        return metrics

    def target(self, batch: Transition, noise: Tensor | None = None) -> Tensor:
        """Compute r + γ min_i Q̄_i(s', ã) with ã = μ̄(s') + clip(ε, −c, c), bootstrapped unless the MDP ended; [M]."""
        action = self.actor_target(batch.next_obs)
        if noise is not None:
            action = smoothed(action, noise, self.target_noise_clip, self.actor.edge)
        q = self.q_target(batch.next_obs, action).amin(0)
        return batch.reward + self.gamma * batch.discount * q

    def actor_loss(self, obs: Obs) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −E[Q_1(s, μ(s))], whose gradient is minus the deterministic policy gradient."""
        loss = -first(self.q, obs, self.actor(obs)).mean()
        return loss, {"loss/actor": loss.detach()}

    def get_extra_state(self) -> Tensor:
        """Return the count of updates, for the state dict."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Load the count of updates."""
        self.updates = int(state)
