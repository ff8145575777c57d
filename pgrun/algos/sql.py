"""Soft Q-learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.algos.parts.loading import put
from pgrun.algos.parts.off_policy import OffPolicy
from pgrun.config.ranges import Count, FileName, Positive, Range, Scheduled
from pgrun.data.types import Carry, Obs, Transition
from pgrun.errors import UserError
from pgrun.nn import q_functions
from pgrun.nn.heads import check_bounded
from pgrun.nn.layers import flat_size
from pgrun.nn.modes import statistics
from pgrun.nn.q import DiscreteQ
from pgrun.nn.samplers import Amortised, Langevin, MeanQ, Softmax, SoftPolicy
from pgrun.optim.gradient_step import slow_copy


class SQL(OffPolicy):
    """Soft Q-learning: it fits the soft optimal Q, and draws from π(a|s) ∝ exp(Q(s, a)/α).

    Haarnoja et al. 2017, https://arxiv.org/abs/1702.08165, algorithm 1, whose target networks θ̄ and φ̄ are hard
    copies (algo.target_every); by default they follow slowly.

    Args:
        temperature: α, what entropy is worth in units of the scaled reward.
        reward_scale: rewards are multiplied by it.
        sampler: how continuous actions are drawn: `svgd`, by a network that learns to, or `mcmc`, by Langevin dynamics.
        particles: draws that repel each other for a step of the network, at each state.
        value_samples: draws for a soft value.
        proposal: q' of eq. 10, which draws for soft values are from: `uniform`, or `policy`, a slow copy of the
            sampling network of sampler=svgd, whose density the Jacobian gives where it is one-to-one.
        candidates: draws of which evaluation takes the best by Q.
        langevin_steps: steps of Langevin dynamics, with sampler=mcmc.
        step_length: of each of these steps.
        compose: runs of this algorithm; the mean of their Qs is the Q to begin with.
    """

    action_spaces = (gym.spaces.Discrete, gym.spaces.Box)
    policy_names = ("q.", "actor.")
    remembers = False
    q: MeanQ

    def __init__(
        self,
        *,
        temperature: Scheduled[Positive],
        reward_scale: Positive,
        sampler: Literal["svgd", "mcmc"],
        particles: Annotated[int, Range(2)],
        value_samples: Count,
        candidates: Count,
        langevin_steps: Count,
        step_length: Positive,
        compose: Sequence[FileName],
        proposal: Literal["uniform", "policy"] = "uniform",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.alpha = self.coefficient("alpha", temperature, traced=False)
        self.reward_scale, self.particles = reward_scale, particles
        self.compose = [str(run) for run in compose]
        draws = (self.alpha, value_samples, candidates)
        discrete = isinstance(self.action_space, gym.spaces.Discrete)
        make = partial(DiscreteQ if discrete else q_functions, self.network, self.obs_space, self.action_space, k=1)
        self.actor: SoftPolicy
        check_bounded(self.action_space)
        if discrete:
            self.actor = Softmax(self.alpha)
        elif sampler == "svgd":
            self.actor = Amortised(self.network, self.obs_space, self.action_space, *draws)
        else:
            size = flat_size(self.action_space)
            self.actor = Langevin(size, *draws, steps=langevin_steps, step_length=step_length)
        self.attach_critic(MeanQ([make() for _ in self.compose or [""]]))
        self.actor_target: Amortised | None = None  # f^φ̄, which draws for soft values
        if proposal == "policy":
            if not isinstance(self.actor, Amortised):
                raise UserError(
                    "algo.proposal=policy needs draws whose density is known, those of continuous actions with "
                    "algo.sampler=svgd: use algo.proposal=uniform (of discrete actions, soft values are exact)"
                )
            self.actor_target, self.phi_target = slow_copy(self.actor)
            self.statistics += statistics(self.actor_target, self.actor)
        if isinstance(self.actor, Amortised):
            self.sampler_step = self.gradient_step(self.actor.parameters(), self.sampler_loss, name="sampler")

    def begin(self, load: Callable[[str], dict[str, Tensor]]) -> None:
        """Load Q = 1/|C| Σ_{i∈C} Q_i of other runs; the sampling network starts from the first run's."""
        runs = {run: load(run) for run in self.compose}
        for run, q in zip(self.compose, self.q.members, strict=False):
            if any(key.startswith("q.members.1.") for key in runs[run]):
                raise UserError(f"algo.compose: {run} is itself a mean of runs: name those")
            put(q, runs[run], "q.members.0.", run)
        if runs and isinstance(self.actor, Amortised):
            put(self.actor, runs[self.compose[0]], "actor.", f"{self.compose[0]}, for algo.sampler=svgd,")
        self.copy_targets()

    def set_progress(self, progress: float) -> None:
        """Give the draws their temperature, too; see `Algorithm.set_progress`."""
        super().set_progress(progress)
        self.actor.alpha = self.alpha

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Draw an action, or take the best of several draws; see `Algorithm.act`."""
        return (self.actor.sample(self.q, obs, 1)[0] if explore else self.actor.best(self.q, obs)), carry, {}

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Fit Q, and step the sampling network if there is one; see `Algorithm.update`."""
        with torch.no_grad():
            v = self.soft_value(batch.next_obs)
        metrics = self.fit(batch, v)  # J_Q, eq. 11
        if isinstance(self.actor, Amortised):
            noise, delta = self.actor.transport(self.q, batch.obs, self.particles)  # Δf, eq. 13
            metrics |= self.sampler_step(batch.obs, noise, delta)
        self.update_targets()
        return metrics | {"value/soft": v.mean()}

    def soft_value(self, obs: Obs) -> Tensor:
        """Estimate V_soft^θ̄(s) = α log E_{q'}[exp(Q^θ̄(s, a)/α) / q'(a)], eq. 10, [M]; exact for discrete actions."""
        if self.actor_target is None:
            return self.actor.value(self.q_target, obs)
        return self.actor_target.value_by_own_draws(self.q_target, obs)

    def targets(self) -> list[tuple[Tensor, Tensor]]:
        """Pair θ̄ with θ and, if soft values are of its draws, φ̄ with φ; see `OffPolicy.targets`."""
        own = [] if self.actor_target is None else [(self.phi_target, self.sampler_step.theta)]
        return [*super().targets(), *own]

    def target(self, batch: Transition, v: Tensor) -> Tensor:
        """Compute r + γ V_soft(s'), bootstrapped unless the MDP ended; [M]."""
        return self.reward_scale * batch.reward + self.gamma * batch.discount * v

    def sampler_loss(self, obs: Obs, noise: Tensor, delta: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −E_ξ[Δf(ξ; s)ᵀ f(ξ; s)], whose gradient is minus eq. 14; ξ and Δf are [M, n, D]."""
        loss = -(delta * self.actor(obs, noise)).sum(-1).mean()
        return loss, {"policy/transport": delta.norm(dim=-1).mean()}  # 0 once the draws are where they should be
