"""Noise on the actions of a deterministic policy.

Shapes: B environments, A coordinates. Actions are canonical, so that σ is in halves of a bounded coordinate's range.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pgrun.config.ranges import NotNegative, Positive, Schedule
from pgrun.core.schedules import SCHEDULES

Memory = tuple[Tensor, ...]


class ActionNoise:
    """What is added to actions, and what it remembers between steps. By itself, nothing."""

    def initial(self, num_envs: int, size: int, device: torch.device) -> Memory:
        """What it remembers at an episode's start; each [B, ...]."""
        return ()

    def figures(self, progress: float) -> dict[str, float]:
        """Values that change over the run, by name, for a curve."""
        return {}

    def __call__(self, action: Tensor, memory: Memory, progress: float) -> tuple[Tensor, Memory]:
        """action [B, A] -> the noisy one, and what to remember; progress of the run in [0, 1]."""
        return action, memory


class Scheduled(ActionNoise):
    """Noise with a σ that goes from `sigma` to `final` as a schedule says.

    Args:
        sigma: the noise's standard deviation, in halves of an action coordinate's range.
        schedule: how σ falls over the run, down to `final`.
        final: its standard deviation at the run's end, unless constant.
    """

    def __init__(self, *, sigma: NotNegative, schedule: Schedule, final: NotNegative) -> None:
        self.first, self.final, self.schedule = sigma, final, SCHEDULES[schedule]

    def sigma(self, progress: float) -> float:
        """σ at this point of the run."""
        return self.final + (self.first - self.final) * self.schedule(progress)

    def figures(self, progress: float) -> dict[str, float]:
        return {"sigma": self.sigma(progress)}


class Gaussian(Scheduled):
    """ε ~ N(0, σ²), afresh at each step."""

    def __call__(self, action: Tensor, memory: Memory, progress: float) -> tuple[Tensor, Memory]:
        return torch.add(action, torch.randn_like(action), alpha=self.sigma(progress)), memory


class OrnsteinUhlenbeck(Scheduled):
    """σ x with dx = −θ x dt + dW, from x = 0 at an episode's start: noise that keeps its direction for about 1/θ.

    Uhlenbeck & Ornstein 1930, https://doi.org/10.1103/PhysRev.36.823, in Euler's steps of dt, as Lillicrap et al. 2016
    have it: x ← x − θ x dt + √dt N(0, 1), whose stationary variance is 1 / (θ (2 − θ dt)).

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
        return (torch.zeros(num_envs, size, device=device),)

    def __call__(self, action: Tensor, memory: Memory, progress: float) -> tuple[Tensor, Memory]:
        x = torch.add(self.decay * memory[0], torch.randn_like(action), alpha=self.scale)
        return torch.add(action, x, alpha=self.sigma(progress)), (x,)


def smoothed(action: Tensor, noise: Tensor, clip: float, edge: Tensor) -> Tensor:
    """Target policy smoothing: a + clip(ε, ±c), kept within ±edge. action and noise [M, A], edge [A].

    Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477, section 5.3: the ã of algorithm 1.
    """
    return torch.clamp(action + noise.clamp(-clip, clip), -edge, edge)
