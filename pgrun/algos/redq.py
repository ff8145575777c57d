"""Randomized ensembled double Q-learning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.algos.sac import SAC
from pgrun.config.ranges import Count
from pgrun.data.types import Obs, Transition
from pgrun.errors import UserError


class REDQ(SAC):
    """SAC with many updates a step and N critics: targets from the least of M random ones, the policy from their mean.

    Chen et al. 2021, https://arxiv.org/abs/2101.05982, algorithm 1, whose lines stand beside the code; its ρ is
    1 − tau. The temperature is learned as in SAC.

    Args:
        critics: N, Q functions.
        subset: M, random critics that a target takes the least of, drawn anew for each update.
        policy_delay: G, updates of the critics for each of the policy: as many as memory.updates makes after a step.
    """

    def __init__(self, *, critics: Count, subset: Count, policy_delay: Count, **common: Any) -> None:
        super().__init__(critics=critics, **common)
        if subset > critics:
            raise UserError(f"algo.subset={subset} is more than algo.critics={critics}: use at most that")
        self.critics, self.subset, self.policy_delay = critics, subset, policy_delay
        self.updates = 0

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Fit the critics, and step policy and temperature every `policy_delay` updates; see `Algorithm.update`."""
        drawn = torch.randperm(self.critics, device=self.device)[: self.subset]  # ℳ, line 7
        metrics = self.fit(batch, torch.randn_like(batch.action), drawn)  # lines 8 to 10
        self.update_targets()  # φ̄_i ← ρφ̄_i + (1 − ρ)φ_i, line 11
        self.updates += 1
        if self.updates % self.policy_delay == 0:  # the loop of line 5 is over
            alpha = self.log_alpha.detach().exp()
            metrics |= self.actor_step(batch.obs, torch.randn_like(batch.action), alpha)  # line 12
            metrics |= self.adapt(-metrics["policy/entropy"])
            metrics["policy/temperature"] = alpha
        return metrics

    def target(self, batch: Transition, noise: Tensor, drawn: Tensor) -> Tensor:  # type: ignore[override]
        """Compute r + γ (min_{i∈ℳ} Q̄_i(s', ã') − α log π(ã'|s')), line 8, bootstrapped unless the MDP ended; [M]."""
        action, log_prob = self.actor(batch.next_obs).rsample(noise)
        q = self.q_target(batch.next_obs, action)[drawn].amin(0)
        return batch.reward + self.gamma * batch.discount * (q - self.log_alpha.exp() * log_prob)

    def actor_loss(self, obs: Obs, noise: Tensor, alpha: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −E[(1/N) Σ_i Q_i(s, ã) − α log π(ã|s)] with ã = f(ε; s), line 12."""
        action, log_prob = self.actor(obs).rsample(noise)
        loss = (alpha * log_prob - self.q(obs, action).mean(0)).mean()
        return loss, {"loss/actor": loss.detach(), "policy/entropy": -log_prob.detach().mean()}

    def get_extra_state(self) -> Tensor:
        """Return the count of updates, for the state dict."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Load the count of updates."""
        self.updates = int(state)
