"""What on-policy algorithms share: an actor, perhaps a critic, and Ψ_t; each adds its step along the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.algos.base import Algorithm
from pgrun.core.advantages import Advantage, Returns
from pgrun.core.baselines import Baseline, check_combination
from pgrun.errors import UserError
from pgrun.nn import ActorCritic, Network
from pgrun.nn.normalize import RewardScale
from pgrun.optim import GradientStep
from pgrun.types import Carry, Obs, Transition, columns, flatten_time, rows, sequences


class OnPolicy(Algorithm):
    """A policy, a critic where the baseline is learned, and what weighs the score.

    Args:
        obs_space, action_space: the environments'.
        network: makes the encoders.
        optimizer: makes the optimizer of each gradient step.
        device: where it learns.
        compile: compile loss and gradient.
        advantage, baseline: Ψ_t.
        gamma: discount γ.
        rollout: T, which the collector takes; None where it brings whole episodes.
        whole_episodes: whether it does.
        normalize_reward: divide rewards by the running standard deviation of the discounted return.
        max_grad_norm: clip the gradient's norm to this; None leaves it.

    Raises:
        UserError: advantage, baseline and collector don't go together.
    """

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
        rollout: int | None,
        whole_episodes: bool,
        normalize_reward: bool,
        max_grad_norm: float | None,
    ) -> None:
        super().__init__(obs_space=obs_space, action_space=action_space)
        if wrong := check_combination(advantage, baseline, whole_episodes):
            raise UserError(wrong)
        self.advantage, self.baseline, self.gamma, self.rollout = advantage, baseline, gamma, rollout
        self.optimizer, self.compile_steps, self.max_grad_norm = optimizer, compile, max_grad_norm
        self.model = ActorCritic(network, obs_space, action_space, critic=baseline.learned)
        if compile and self.model.recurrent:
            raise UserError("compile=true can't unroll a network with a memory; use compile=false")
        self.reward_scale = RewardScale(gamma) if normalize_reward else None
        self.place(device)

    def gradient_step(
        self, parameters: Iterable[nn.Parameter], loss: Callable[..., Any], *, name: str = ""
    ) -> GradientStep:
        """A step of the configured optimizer along a loss's gradient."""
        return GradientStep(
            self,
            parameters,
            loss,
            self.optimizer,
            max_grad_norm=self.max_grad_norm,
            compile=self.compile_steps,
            name=name,
            fisher=self.fisher,
        )

    def fisher(self, batch: Transition, *_: Any) -> tuple[Tensor, Tensor]:
        """log π(a|s) + log N(v; V(s), 1) of draws from the model itself, and which steps are valid; both [...]."""
        pi, value = self.model(batch)
        with torch.no_grad():
            action, v = pi.sample(), value + torch.randn_like(value)
        return pi.log_prob(action) - 0.5 * (value - v).square(), batch.valid

    def initial_carry(self, num_envs: int) -> Carry:
        return self.model.initial_carry(num_envs)

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        pi, after = self.model.step(obs, carry)
        return (pi.sample() if explore else pi.mode()), after, {"carry": carry[0]} if carry else {}

    def log_prob(self, batch: Transition) -> Tensor:
        return self.model.policy(batch).log_prob(batch.action)

    def scaled(self, batch: Transition) -> Transition:
        """A rollout with its rewards scaled by statistics that have seen them, where that is asked for."""
        if self.reward_scale is None:
            return batch
        self.reward_scale.observe(batch.reward, batch.last, batch.valid)
        return batch._replace(reward=self.reward_scale(batch.reward))

    @torch.no_grad()
    def estimate(self, batch: Transition) -> Transition:
        """A rollout [T, B] with what its update needs in extras: `psi` (Ψ_t), `target` and `value` (V's), `log_prob`
        and `pi` (log π_old(a_t|s_t) and π_old's parameters), all [T, B, ...]. The successors are let go.
        """
        batch = self.scaled(batch)
        pi, value = self.model(batch)
        returns = Returns(batch.reward, batch.discount, batch.last, value, self.model.next_value(batch))
        psi, target = self.advantage(returns, self.gamma)
        found = {"psi": psi, "target": target, "value": value, "log_prob": pi.log_prob(batch.action), "pi": pi.params()}
        return batch._replace(next_obs=batch.obs, extras={**batch.extras, **found})

    def minibatches(self, batch: Transition, epochs: int, size: int) -> Iterator[Transition]:
        """`epochs` times a rollout [T, B] in random order, in pieces of `size` steps: rows [size] of a network without
        memory, sequences [L, size / L] of one with. What is left over of an epoch is left out.
        """
        if self.model.recurrent:
            length = min(self.model.sequence or batch.reward.shape[0], batch.reward.shape[0])
            whole, pick, size = sequences(batch, length), columns, max(size // length, 1)
            n = whole.reward.shape[1]
        else:
            whole, pick = flatten_time(batch), rows
            n = whole.reward.shape[0]
        m = min(size, n)
        for _ in range(epochs):
            order = torch.randperm(n, device=batch.reward.device)
            for i in range(0, n - n % m, m):
                yield whole if m == n else pick(whole, order[i : i + m])
