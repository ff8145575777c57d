"""Small worlds of tensors, each of which shows one thing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pgrun.config.ranges import Count, CountOrZero, NotNegative, Positive, Range
from pgrun.envs.tensor import Outcome, World
from pgrun.errors import UserError

spaces = gym.spaces


def box(low: ArrayLike, high: ArrayLike) -> spaces.Box:
    """Make a Box of one axis with these bounds."""
    return spaces.Box(np.asarray(low, dtype=np.float32), np.asarray(high, dtype=np.float32), dtype=np.float32)


def uniform(low: float, high: float, *shape: int, rng: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw uniformly from [low, high)."""
    return low + (high - low) * torch.rand(*shape, generator=rng, dtype=dtype, device=rng.device)


def chosen(x: Tensor, places: Sequence[int]) -> Tensor:
    """Return these coordinates of x [B, N]; without an index in memory, which a GPU would have to wait for."""
    return x if list(places) == list(range(x.shape[-1])) else torch.stack([x[:, i] for i in places], -1)


def not_masked(names: Sequence[str], masked: Sequence[str]) -> list[int]:
    """Return the places of the coordinates that are seen; UserError where there are none, or a name is unknown."""
    if unknown := [name for name in masked if name not in names]:
        raise UserError(f"env.world.masked: {unknown[0]} is not known; choose from {', '.join(names)}")
    seen = [i for i, name in enumerate(names) if name not in masked]
    if not seen:
        raise UserError("env.world.masked hides everything: leave one of " + ", ".join(names))
    return seen


class CartPole(World):
    """CartPole-v1 with gymnasium's equations and limits, in double precision; some of its state can be hidden.

    Args:
        masked: which of x, x_dot, theta, theta_dot are not seen. Without the velocities the problem is only partially
            observable: one observation does not say which way the pole falls.
    """

    anywhere = True
    NAMES = ("x", "x_dot", "theta", "theta_dot")
    GRAVITY, MASS_POLE, TOTAL_MASS, HALF_LENGTH, FORCE, DT = 9.8, 0.1, 1.1, 0.5, 10.0, 0.02
    MAX_X, MAX_THETA = 2.4, 12 * 2 * math.pi / 360

    def __init__(self, *, masked: Sequence[Literal["x", "x_dot", "theta", "theta_dot"]]) -> None:
        self.seen = not_masked(self.NAMES, masked)
        high = np.array([2 * self.MAX_X, np.inf, 2 * self.MAX_THETA, np.inf])[self.seen]
        self.obs_space, self.action_space = box(-high, high), spaces.Discrete(2)

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw start states; see `World.initial`."""
        return uniform(-0.05, 0.05, n, 4, rng=rng, dtype=torch.float64)

    def observe(self, state: Tensor) -> Tensor:
        """Show the coordinates that are not masked; see `World.observe`."""
        return chosen(state, self.seen).float()

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Move cart and pole; see `World.step`."""
        _, x_dot, theta, theta_dot = state.unbind(-1)
        force = self.FORCE * (2.0 * action - 1.0)
        sin, cos = theta.sin(), theta.cos()
        # Florian 2007, https://coneural.org/florian/papers/05_cart_pole.pdf, eq. 23 and 24 without friction
        temp = (force + self.MASS_POLE * self.HALF_LENGTH * theta_dot.square() * sin) / self.TOTAL_MASS
        theta_acc = (self.GRAVITY * sin - cos * temp) / (
            self.HALF_LENGTH * (4.0 / 3.0 - self.MASS_POLE * cos.square() / self.TOTAL_MASS)
        )
        x_acc = temp - self.MASS_POLE * self.HALF_LENGTH * theta_acc * cos / self.TOTAL_MASS
        after = state + self.DT * torch.stack([x_dot, x_acc, theta_dot, theta_acc], -1)
        fallen = (after[:, 0].abs() > self.MAX_X) | (after[:, 2].abs() > self.MAX_THETA)
        return Outcome(after, torch.ones(len(state), device=state.device), fallen)


class Pendulum(World):
    """Pendulum-v1 with gymnasium's equations, in double precision; some of what is seen of it can be hidden.

    Args:
        masked: which of x, y (of the tip) and theta_dot are not seen. Without the velocity the problem is only
            partially observable: one observation does not say which way the pendulum swings.
    """

    anywhere = True
    NAMES = ("x", "y", "theta_dot")
    GRAVITY, MASS, LENGTH, DT, MAX_SPEED, MAX_TORQUE = 10.0, 1.0, 1.0, 0.05, 8.0, 2.0

    def __init__(self, *, masked: Sequence[Literal["x", "y", "theta_dot"]]) -> None:
        self.seen = not_masked(self.NAMES, masked)
        high = np.array([1.0, 1.0, self.MAX_SPEED])[self.seen]
        self.widest = torch.tensor([math.pi, 1.0])  # of the start states
        self.obs_space, self.action_space = box(-high, high), box([-self.MAX_TORQUE], [self.MAX_TORQUE])

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw start states, angle and speed; see `World.initial`."""
        return uniform(-1.0, 1.0, n, 2, rng=rng, dtype=torch.float64) * self.widest

    def observe(self, state: Tensor) -> Tensor:
        """Show the coordinates that are not masked; see `World.observe`."""
        theta, theta_dot = state.unbind(-1)
        return chosen(torch.stack([theta.cos(), theta.sin(), theta_dot], -1), self.seen).float()

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Turn the pendulum; see `World.step`."""
        theta, theta_dot = state.unbind(-1)
        torque = action[:, 0].double()
        angle = (theta + math.pi) % (2.0 * math.pi) - math.pi  # 0: upright
        cost = angle.square() + 0.1 * theta_dot.square() + 0.001 * torque.square()
        turn = 3.0 * self.GRAVITY / (2.0 * self.LENGTH) * theta.sin() + 3.0 / (self.MASS * self.LENGTH**2) * torque
        speed = (theta_dot + turn * self.DT).clamp(-self.MAX_SPEED, self.MAX_SPEED)
        after = torch.stack([theta + speed * self.DT, speed], -1)
        return Outcome(after, -cost, torch.zeros(len(state), dtype=torch.bool, device=state.device))


class ContextualBandit(World):
    """A bandit with contexts: in each context one arm is best and pays 1, the others 0; an episode is one step.

    Args:
        contexts: how many there are; each is as likely.
        arms: how many there are.
        features: a context is seen as a random vector of so many numbers; None: one-hot.
        noise: standard deviation of the noise in the reward.
        table_seed: decides which arm is best where, and what contexts look like.
    """

    def __init__(
        self, *, contexts: Count, arms: Count, features: Count | None, noise: NotNegative, table_seed: CountOrZero
    ) -> None:
        rng = torch.Generator().manual_seed(table_seed)
        self.contexts, self.arms, self.noise = contexts, arms, noise
        self.best = torch.randint(arms, (contexts,), generator=rng)  # [C]
        self.looks = torch.eye(contexts)  # [C, O]
        if features is not None:
            self.looks = uniform(-1.0, 1.0, contexts, features, rng=rng)
        size = self.looks.shape[1]
        self.obs_space, self.action_space = box([-1.0] * size, [1.0] * size), spaces.Discrete(arms)

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw contexts; see `World.initial`."""
        return torch.randint(self.contexts, (n,), generator=rng)

    def observe(self, state: Tensor) -> Tensor:
        """Show the contexts; see `World.observe`."""
        return self.looks[state]

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Pay the reward and end the episode; see `World.step`."""
        reward = (action == self.best[state]).float()
        if self.noise:
            reward = reward + self.noise * torch.randn(len(state), generator=rng)
        return Outcome(state, reward, torch.ones(len(state), dtype=torch.bool))


class SparseReach(World):
    """A point in the square [−1, 1]² that has to find a goal, which pays 1 and ends the episode.

    It moves by at most `step` a coordinate. Undirected steps diffuse as the square root of time and almost never get
    there.

    Args:
        start, goal: where it begins (give or take `spread`), and where it should get to.
        spread: half the width of the square that starts are drawn from.
        radius: how near the goal counts as reached.
        step: how far a full action moves.
    """

    def __init__(
        self, *, start: Sequence[float], goal: Sequence[float], spread: NotNegative, radius: Positive, step: Positive
    ) -> None:
        self.start, self.goal = torch.tensor(start, dtype=torch.float32), torch.tensor(goal, dtype=torch.float32)
        self.spread, self.radius, self.size = spread, radius, step
        self.obs_space, self.action_space = box([-1.0] * 2, [1.0] * 2), box([-1.0] * 2, [1.0] * 2)

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw start states; see `World.initial`."""
        return (self.start + uniform(-self.spread, self.spread, n, 2, rng=rng)).clamp(-1.0, 1.0)

    def observe(self, state: Tensor) -> Tensor:
        """Show the position; see `World.observe`."""
        return state

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Move the point; see `World.step`."""
        after = (state + self.size * action).clamp(-1.0, 1.0)
        there = (after - self.goal).norm(dim=-1) <= self.radius
        return Outcome(after, there.float(), there)

    def expert(self, obs: Tensor) -> Tensor:
        """Return the action that goes straight to the goal at full speed; obs [B, 2] to [B, 2]."""
        way = (self.goal - obs) / self.size
        return way / way.abs().amax(-1, keepdim=True).clamp(min=1.0)


class RewardHack(World):
    """A boat race on a line whose points are a bad measure of it.

    After OpenAI's CoastRunners, https://openai.com/index/faulty-reward-functions/. The true aim is to cross the finish
    soon: 10 there, −0.1 a step; it is logged as `return_true` and never seen by the algorithm. The algorithm is paid
    points: `finish_points` for the finish, where the race ends, and 1 for each time the buoy is passed. A boat that
    circles the buoy for ever has the most points and never arrives.

    Args:
        length: cells from the start, 0, to the finish, length − 1; what is seen is the cell, one-hot.
        buoy: the buoy's cell.
        finish_points: points for the finish.
    """

    MOVES: ClassVar = torch.tensor([-1, 0, 1])

    def __init__(self, *, length: Annotated[int, Range(2)], buoy: CountOrZero, finish_points: float) -> None:
        if not 0 < buoy < length - 1:
            raise UserError(f"env.world.buoy={buoy} must lie between the start and the finish: 1 to {length - 2}")
        self.length, self.buoy, self.finish_points = length, buoy, finish_points
        self.looks = torch.eye(length)
        self.obs_space, self.action_space = box([0.0] * length, [1.0] * length), spaces.Discrete(3)

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Return start states, all 0; see `World.initial`."""
        return torch.zeros(n, dtype=torch.int64)

    def observe(self, state: Tensor) -> Tensor:
        """Show the cell; see `World.observe`."""
        return self.looks[state]

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Move the boat and count its points; see `World.step`."""
        after = (state + self.MOVES[action]).clamp(min=0)
        finished = after == self.length - 1
        passed = (after == self.buoy) & (state != self.buoy)
        points = passed.float() + self.finish_points * finished.float()
        return Outcome(after, points, finished, {"return_true": 10.0 * finished.float() - 0.1})
