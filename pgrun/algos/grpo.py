"""Group relative policy optimisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.algos.parts.proximal import Proximal
from pgrun.config.ranges import Count
from pgrun.core import groups, losses
from pgrun.data.types import Transition, mask_mean
from pgrun.errors import UserError


class GRPO(Proximal):
    """PPO's clip without a critic: a trajectory is compared with others that began in the same state.

    Shao et al. 2024, DeepSeekMath, https://arxiv.org/abs/2402.03300, with outcome supervision: all steps of a
    trajectory have its Â. Dr. GRPO, Liu et al. 2025, https://arxiv.org/abs/2503.20783: the same with `normalize_std`
    and `normalize_length` off.

    Args:
        group: G, trajectories from one start state; the collector brings whole groups, neighbours in the B axis.
        normalize_std: divide by the group's standard deviation.
        normalize_length: average over each trajectory's steps first.
    """

    def __init__(self, *, group: Count, normalize_std: bool, normalize_length: bool, **common: Any) -> None:
        super().__init__(**common)
        if group < 2:
            raise UserError(f"algo.group={group} leaves nothing to compare with: use algo.group=2 or more")
        self.group, self.normalize_std, self.normalize_length = group, normalize_std, normalize_length

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Compare the trajectories, and take the epochs; see `Algorithm.update`."""
        batch, undecided = self.compare(self.seen(batch))
        metrics = self.run_epochs(batch)
        self.model.observe(batch)
        return {**metrics, "policy/undecided_groups": undecided}

    @torch.no_grad()
    def compare(self, batch: Transition) -> tuple[Transition, Tensor]:
        """Put Â into extras["psi"] of a rollout [T, B]; return it and the share of groups with equal returns."""
        batch = self.estimate(batch)
        r = batch.extras["psi"][0]  # R_i, [B]
        a = groups.group_relative(r, self.group, divide=self.normalize_std).expand_as(batch.reward)  # Â_{i,t} = Â_i
        kept = {key: x for key, x in batch.extras.items() if key in ("carry", "fresh", "log_prob", "log_prob_ref")}
        weight = groups.per_trajectory(batch.valid) if self.normalize_length else batch.valid.float()
        return batch._replace(extras={**kept, "psi": a, "weight": weight}), groups.undecided(r, self.group)

    def loss(self, sample: Transition, *epsilon: Tensor | float) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −J_GRPO, eq. 3, on rows [M] or sequences [L, M]; over minibatches its mean is one of trajectories."""
        valid, extras = sample.valid, sample.extras
        pi = self.model.policy(sample)
        log_prob = pi.log_prob(sample.action)
        log_ratio = log_prob - extras["log_prob"]
        ratio = log_ratio.exp()  # ρ_{i,t}
        row_loss = losses.clipped_surrogate(ratio, extras["psi"], *epsilon)
        if self.reference is not None:
            row_loss = row_loss + self.reference.penalty(sample, log_prob, ratio)
        policy = mask_mean(extras["weight"] * row_loss, valid)
        entropy = mask_mean(pi.entropy(), valid)
        with torch.no_grad():
            kl = mask_mean(ratio - 1.0 - log_ratio, valid)  # Schulman's k3, http://joschu.net/blog/kl-approx.html
            clipped = mask_mean(losses.outside_clip(ratio, *epsilon), valid)
        return policy - self.entropy_coef * entropy, {
            "loss/policy": policy.detach(),
            "policy/entropy": entropy.detach(),
            "policy/kl": kl,
            "policy/clip_fraction": clipped,
        }
