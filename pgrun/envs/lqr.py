"""The linear-quadratic problem, whose optimal policy is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pgrun.config.ranges import NotNegative
from pgrun.envs.tensor import Outcome, World
from pgrun.envs.worlds import box, uniform
from pgrun.errors import UserError

Matrix = Sequence[Sequence[float]]


class LinearQuadratic(World):
    """A linear system s′ = A s + B a + noise with the cost sᵀQs + aᵀRa a step.

    States and actions are not bounded, and episodes end only by a time limit.

    Args:
        dynamics: A [n, n].
        control: B [n, m].
        state_cost: Q [n, n].
        effort_cost: R [m, m].
        noise: standard deviation of the noise in each coordinate of s′.
        spread: each coordinate starts between minus and plus this.
    """

    def __init__(
        self,
        *,
        dynamics: Matrix,
        control: Matrix,
        state_cost: Matrix,
        effort_cost: Matrix,
        noise: NotNegative,
        spread: NotNegative,
    ) -> None:
        self.a, self.b, self.q, self.r = (
            torch.tensor(x, dtype=torch.float64) for x in (dynamics, control, state_cost, effort_cost)
        )
        n, m = len(dynamics), len(effort_cost)
        for name, x, shape in (
            *(("dynamics", self.a, (n, n)), ("control", self.b, (n, m))),
            *(("state_cost", self.q, (n, n)), ("effort_cost", self.r, (m, m))),
        ):
            if tuple(x.shape) != shape:
                raise UserError(f"env.world.{name} has the shape {tuple(x.shape)}; it must be {shape}")
        self.noise, self.spread = noise, spread
        self.obs_space, self.action_space = box([-np.inf] * n, [np.inf] * n), box([-np.inf] * m, [np.inf] * m)

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw start states; see `World.initial`."""
        return uniform(-self.spread, self.spread, n, len(self.a), rng=rng, dtype=torch.float64)

    def observe(self, state: Tensor) -> Tensor:
        """Show the state; see `World.observe`."""
        return state.float()

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Move by the dynamics and pay minus the cost; see `World.step`."""
        action = action.double()
        cost = ((state @ self.q) * state).sum(-1) + ((action @ self.r) * action).sum(-1)
        after = state @ self.a.T + action @ self.b.T
        if self.noise:
            after = after + self.noise * torch.randn(state.shape, generator=rng, dtype=torch.float64)
        return Outcome(after, -cost, torch.zeros(len(state), dtype=torch.bool))

    def gain(self, gamma: float) -> Tensor:
        """Compute the gain K [m, n] of the best policy, a = −K s, for the discounted cost over an endless time.

        It iterates the Riccati equation P = Q + γAᵀPA − γAᵀPB K with K = (R + γBᵀPB)⁻¹ γBᵀPA.

        Raises:
            UserError: the iteration does not converge.
        """
        a, b, q, r = self.a, self.b, self.q, self.r
        p = q
        for _ in range(2_000):
            k = torch.linalg.solve(r + gamma * b.T @ p @ b, gamma * b.T @ p @ a)
            before, p = p, q + gamma * a.T @ p @ (a - b @ k)
            if torch.allclose(p, before, rtol=1e-13, atol=0.0):
                return k
        raise UserError("env.world: no feedback holds these dynamics; change dynamics or control")
