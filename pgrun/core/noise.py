"""Noise on the actions of a deterministic policy.

Shapes: B environments, A coordinates. Actions are canonical: a bounded coordinate lies in [-1, 1], so σ is in halves of
its range.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pgrun.config.ranges import Falling, NotNegative, Positive, Scheduled
from pgrun.core.exploration import Explorer, plus
from pgrun.core.schedules import SCHEDULES, Schedule

Memory = tuple[Tensor, ...]


class ActionNoise(Explorer):
    """Noise on actions, with a memory between steps. The base class adds none."""

    def initial(self, num_envs: int, size: int, device: torch.device) -> Memory:
        """Return the memory at an episode's start; each tensor [B, ...]."""
        return ()

    def __call__(self, action: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Add noise.

        Args:
            action: [B, A].
            memory: the noise's memory.

        Returns:
            The noisy action and the new memory.
        """
        return action, memory


class ScheduledNoise(ActionNoise):
    """Noise whose σ goes from `sigma` to `final` along a schedule.

    Args:
        sigma: the noise's standard deviation, in halves of an action coordinate's range; or its schedule, which leaves
            schedule and final unread.
        schedule: how σ falls over the run, down to `final`.
        final: its standard deviation at the run's end, unless constant.
    """

    name = "sigma"

    def __init__(self, *, sigma: Scheduled[NotNegative], schedule: Falling, final: NotNegative) -> None:
        self.own = Schedule(sigma)
        self.first, self.final, self.schedule = self.own(0.0), final, SCHEDULES[schedule]
        self.follow(0.0)

    def now(self, progress: float) -> float:
        """Return σ at this progress of the run; see `Explorer.now`."""
        if not self.own.constant:
            return self.own(progress)
        return self.final + (self.first - self.final) * self.schedule(progress)


class Gaussian(ScheduledNoise):
    """Gaussian noise ε ~ N(0, σ²), drawn anew at each step."""

    def __call__(self, action: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Add noise; see `ActionNoise`."""
        return plus(action, torch.randn_like(action), self.number), memory


class OrnsteinUhlenbeck(ScheduledNoise):
    """Ornstein-Uhlenbeck noise σ x, dx = −θ x dt + dW: it keeps its direction for about 1/θ.

    Uhlenbeck & Ornstein 1930, https://doi.org/10.1103/PhysRev.36.823, from x = 0 at an episode's start, in Euler's
    steps of dt, as in Lillicrap et al. 2016: x ← x − θ x dt + √dt N(0, 1), whose stationary variance is 1 / (θ (2 − θ
    dt)).

    Args:
        theta: how fast the noise is drawn back to 0.
        dt: the time of a step.
    """

    def __init__(self, *, theta: Positive, dt: Positive, **scheduled: float | str) -> None:
        super().__init__(**scheduled)  # type: ignore[arg-type]
        if theta * dt >= 2.0:
            raise ValueError(f"theta={theta} times dt={dt} must be below 2, or the noise grows without end")
        self.decay, self.scale = 1.0 - theta * dt, math.sqrt(dt)

    def initial(self, num_envs: int, size: int, device: torch.device) -> Memory:
        """Return x = 0 for each environment; see `ActionNoise.initial`."""
        return (torch.zeros(num_envs, size, device=device),)

    def __call__(self, action: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Step x and add σ x; see `ActionNoise`."""
        x = torch.add(self.decay * memory[0], torch.randn_like(action), alpha=self.scale)
        return plus(action, x, self.number), (x,)


def smoothed(action: Tensor, noise: Tensor, clip: float, edge: Tensor) -> Tensor:
    """Smooth a target policy's action: a + clip(ε, ±c), kept within ±edge.

    Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477, section 5.3: the ã of algorithm 1.

    Args:
        action: a [M, A].
        noise: ε [M, A].
        clip: c.
        edge: the largest value of each coordinate, [A].
    """
    return torch.clamp(action + noise.clamp(-clip, clip), -edge, edge)
