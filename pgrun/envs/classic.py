"""Gymnasium's classic control on tensors: its equations and limits, as worlds that step all copies at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.config.ranges import Count
from pgrun.envs.arguments import Arguments
from pgrun.envs.tensor import Outcome, TensorEnv, World
from pgrun.envs.worlds import CartPole, Pendulum, box, uniform
from pgrun.errors import UserError

spaces = gym.spaces


class Acrobot(World):
    """Acrobot-v1 with gymnasium's equations, in double precision."""

    anywhere = True
    GRAVITY, MASS, LENGTH, CENTRE, INERTIA, DT = 9.8, 1.0, 1.0, 0.5, 1.0, 0.2  # of both links
    MAX_SPEED_1, MAX_SPEED_2 = 4.0 * math.pi, 9.0 * math.pi

    def __init__(self) -> None:
        high = [1.0, 1.0, 1.0, 1.0, self.MAX_SPEED_1, self.MAX_SPEED_2]
        self.obs_space, self.action_space = box([-x for x in high], high), spaces.Discrete(3)

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw start states, two angles and two speeds; see `World.initial`."""
        return uniform(-0.1, 0.1, n, 4, rng=rng).double()

    def observe(self, state: Tensor) -> Tensor:
        """Show cosine and sine of both angles, and the speeds; see `World.observe`."""
        theta_1, theta_2, speed_1, speed_2 = state.unbind(-1)
        shown = (theta_1.cos(), theta_1.sin(), theta_2.cos(), theta_2.sin(), speed_1, speed_2)
        return torch.stack(shown, -1).float()

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Swing the links by one Runge-Kutta step; see `World.step`."""
        torque, h = action.double() - 1.0, self.DT
        k1 = self.derivative(state, torque)
        k2 = self.derivative(state + h / 2 * k1, torque)
        k3 = self.derivative(state + h / 2 * k2, torque)
        k4 = self.derivative(state + h * k3, torque)
        theta_1, theta_2, speed_1, speed_2 = (state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)).unbind(-1)
        speed_1 = speed_1.clamp(-self.MAX_SPEED_1, self.MAX_SPEED_1)
        speed_2 = speed_2.clamp(-self.MAX_SPEED_2, self.MAX_SPEED_2)
        after = torch.stack([wrapped(theta_1), wrapped(theta_2), speed_1, speed_2], -1)
        up = -after[:, 0].cos() - (after[:, 1] + after[:, 0]).cos() > 1.0
        return Outcome(after, up.double() - 1.0, up)

    def derivative(self, state: Tensor, torque: Tensor) -> Tensor:
        """Return the time derivative of a state [B, 4] under a torque [B].

        The equations of Sutton and Barto, http://incompleteideas.net/book/ebook/node110.html.
        """
        theta_1, theta_2, speed_1, speed_2 = state.unbind(-1)
        m, length, c, i, g = self.MASS, self.LENGTH, self.CENTRE, self.INERTIA, self.GRAVITY
        d1 = m * c**2 + m * (length**2 + c**2 + 2 * length * c * theta_2.cos()) + 2 * i
        d2 = m * (c**2 + length * c * theta_2.cos()) + i
        phi2 = m * c * g * (theta_1 + theta_2 - math.pi / 2).cos()
        phi1 = -m * length * c * speed_2 * (speed_2 + 2 * speed_1) * theta_2.sin()
        phi1 = phi1 + (m * c + m * length) * g * (theta_1 - math.pi / 2).cos() + phi2
        turn = torque + d2 / d1 * phi1 - m * length * c * speed_1.square() * theta_2.sin() - phi2
        acceleration_2 = turn / (m * c**2 + i - d2.square() / d1)
        acceleration_1 = -(d2 * acceleration_2 + phi1) / d1
        return torch.stack([speed_1, speed_2, acceleration_1, acceleration_2], -1)


def wrapped(angle: Tensor) -> Tensor:
    """Bring angles into [−π, π]."""
    return torch.where(angle.abs() > math.pi, (angle + math.pi) % (2.0 * math.pi) - math.pi, angle)


class MountainCar(World):
    """MountainCar-v0 with gymnasium's equations, in double precision."""

    anywhere = True
    LEFT, RIGHT, GOAL, MAX_SPEED, FORCE, GRAVITY = -1.2, 0.6, 0.5, 0.07, 0.001, 0.0025

    def __init__(self) -> None:
        self.obs_space = box([self.LEFT, -self.MAX_SPEED], [self.RIGHT, self.MAX_SPEED])
        self.action_space = spaces.Discrete(3)

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw start states, place and speed 0; see `World.initial`."""
        place = uniform(-0.6, -0.4, n, rng=rng, dtype=torch.float64)
        return torch.stack([place, torch.zeros_like(place)], -1)

    def observe(self, state: Tensor) -> Tensor:
        """Show place and speed; see `World.observe`."""
        return state.float()

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Drive the car; see `World.step`."""
        after, there = self.drive(state, (action - 1.0).double() * self.FORCE)
        return Outcome(after, torch.full((len(state),), -1.0, device=state.device), there)

    def drive(self, state: Tensor, push: Tensor) -> tuple[Tensor, Tensor]:
        """Move the car by a push [B]; return the states after it, and which are at the goal."""
        place, speed = state.unbind(-1)
        speed = (speed + push - self.GRAVITY * (3.0 * place).cos()).clamp(-self.MAX_SPEED, self.MAX_SPEED)
        place = (place + speed).clamp(self.LEFT, self.RIGHT)
        speed = torch.where((place == self.LEFT) & (speed < 0.0), 0.0, speed)  # the wall stops it
        return torch.stack([place, speed], -1), (place >= self.GOAL) & (speed >= 0.0)


class MountainCarContinuous(MountainCar):
    """MountainCarContinuous-v0 with gymnasium's equations; each new state is rounded to float32, as there."""

    GOAL, POWER = 0.45, 0.0015

    def __init__(self) -> None:
        super().__init__()
        self.action_space = box([-1.0], [1.0])

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Drive the car; see `World.step`."""
        force = action[:, 0].double()
        after, there = self.drive(state, force.clamp(-1.0, 1.0) * self.POWER)
        return Outcome(after.float().double(), 100.0 * there - 0.1 * force.square(), there)


WORLDS: dict[str, tuple[type[World], dict[str, Any]]] = {
    "CartPole-v1": (CartPole, {"masked": ()}),
    "Pendulum-v1": (Pendulum, {"masked": ()}),
    "Acrobot-v1": (Acrobot, {}),
    "MountainCar-v0": (MountainCar, {}),
    "MountainCarContinuous-v0": (MountainCarContinuous, {}),
}


def tensor_env(
    id: str, num_envs: Count, limit: int | None, kwargs: Mapping[str, Any], given: Mapping[str, Any], seed: int
) -> TensorEnv:
    """Make B copies of an environment of Gymnasium's as tensors.

    Args:
        id: the environment's Gymnasium id.
        num_envs: B, copies side by side.
        limit: truncate episodes here; None: the environment's own limit.
        kwargs: arguments of the world.
        given: what a config may ask for and such copies don't have; what is false or empty is not asked for.
        seed: of the copies, until they are reset with one.

    Raises:
        UserError: there is no such world, or something is asked for that it doesn't have.
    """
    if id not in WORLDS:
        raise UserError(f"env.backend=tensor has no {id}; it has {', '.join(WORLDS)}")
    for key, value in given.items():
        if value:
            raise UserError(f"env.backend=tensor takes no {key}; use env.backend=auto")
    kind, own = WORLDS[id]
    arguments = Arguments(kind, {**own, **kwargs}, label=f"env.kwargs: {id} on tensors", way="+env.kwargs.{}=…")
    world = arguments.call(kind, "can't be made")
    limit = gym.spec(id).max_episode_steps if limit is None else limit
    return TensorEnv(world=world, num_envs=num_envs, max_episode_steps=limit, seed=seed, steady=True)
