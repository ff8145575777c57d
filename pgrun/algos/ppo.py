"""Proximal policy optimisation, clipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.algos.base import Algorithm, estimate
from pgrun.core import losses
from pgrun.core.advantages import Advantage, normalize
from pgrun.core.baselines import Baseline, check_combination
from pgrun.core.schedules import SCHEDULES
from pgrun.errors import UserError
from pgrun.nn import ActorCritic, Network
from pgrun.nn.normalize import RewardScale
from pgrun.optim import GradientStep
from pgrun.types import Carry, Obs, Transition, flatten_time, mask_mean, rows


class PPO(Algorithm):
    """K epochs of minibatches on the clipped surrogate. Schulman et al. 2017, https://arxiv.org/abs/1707.06347."""

    def __init__(
        self,
        *,
        obs_space: gym.Space,
        action_space: gym.Space,
        network: Network,
        optimizer: Callable[..., Any],
        device: str,
        compile: bool,
        advantage: Advantage,
        baseline: Baseline,
        gamma: float,
        rollout: int,
        epochs: int,
        minibatch: int,
        clip_range: float,
        clip_schedule: str,
        normalize_advantage: bool,
        normalize_reward: bool,
        entropy_coef: float,
        value_coef: float,
        max_grad_norm: float | None,
    ) -> None:
        super().__init__(obs_space=obs_space, action_space=action_space)
        if wrong := check_combination(advantage, baseline, whole_episodes=False):
            raise UserError(wrong)
        if clip_schedule not in SCHEDULES:
            raise UserError(f"algo.clip_schedule={clip_schedule} is not known; choose one of {', '.join(SCHEDULES)}")
        self.rollout = rollout  # T, which the collector takes
        self.advantage, self.gamma = advantage, gamma
        self.epochs, self.minibatch = epochs, minibatch
        self.clip_range, self.clip_schedule = clip_range, SCHEDULES[clip_schedule]
        self.normalize_advantage = normalize_advantage
        self.entropy_coef, self.value_coef = entropy_coef, value_coef
        self.model = ActorCritic(network, obs_space, action_space, critic=baseline.learned)
        self.reward_scale = RewardScale(gamma) if normalize_reward else None
        self.place(device)
        self.step = GradientStep(
            self, self.model.parameters(), self.loss, optimizer, max_grad_norm=max_grad_norm, compile=compile
        )

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        pi = self.model.actor(obs)
        return (pi.sample() if explore else pi.mode()), carry, {}

    def update(self, batch: Transition) -> dict[str, Tensor]:
        psi, target, value = estimate(self.model, self.advantage, self.gamma, batch, self.reward_scale)  # Â, [T, B]
        with torch.no_grad():
            log_prob_old = self.model.actor(batch.obs).log_prob(batch.action)
        flat = flatten_time(
            batch._replace(next_obs=batch.obs, extras={"psi": psi, "target": target, "log_prob_old": log_prob_old})
        )
        epsilon = self.clip_range * torch.full_like(psi[0, 0], self.clip_schedule(self.progress))
        n, m = flat.reward.shape[0], min(self.minibatch, flat.reward.shape[0])
        every: list[dict[str, Tensor]] = []
        for _ in range(self.epochs):
            order = torch.randperm(n, device=flat.reward.device)
            for i in range(0, n - n % m, m):
                sample = flat if m == n else rows(flat, order[i : i + m])
                every.append(self.step(sample, epsilon))
        metrics = {key: torch.stack([each[key] for each in every]).mean() for key in every[0]}
        metrics["value/explained_variance"] = losses.explained_variance(value, target, batch.valid)
        self.model.observe(batch.obs, batch.valid)
        return metrics

    def loss(self, sample: Transition, epsilon: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """−L^{CLIP+VF+S}, eq. 9, on rows [M]."""
        valid, target, a = sample.valid, sample.extras["target"], sample.extras["psi"]
        if self.normalize_advantage:
            a = normalize(a, valid)  # Â_t
        pi, value = self.model(sample.obs)
        log_ratio = pi.log_prob(sample.action) - sample.extras["log_prob_old"]
        ratio = log_ratio.exp()  # ρ_t
        policy = mask_mean(losses.clipped_surrogate(ratio, a, epsilon), valid)  # eq. 7
        entropy = mask_mean(pi.entropy(), valid)
        critic = mask_mean(losses.value_error(value, target), valid)
        total = policy + self.value_coef * critic - self.entropy_coef * entropy
        with torch.no_grad():
            kl = mask_mean(ratio - 1.0 - log_ratio, valid)  # Schulman's k3, http://joschu.net/blog/kl-approx.html
            clipped = mask_mean(((ratio - 1.0).abs() > epsilon).to(ratio.dtype), valid)
        return total, {
            "loss/policy": policy.detach(),
            "loss/value": critic.detach(),
            "policy/entropy": entropy.detach(),
            "policy/kl": kl,
            "policy/clip_fraction": clipped,
        }
