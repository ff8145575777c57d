"""Problems with several equally good solutions: does a policy find one of them, or all?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.config.ranges import NotNegative, Positive
from pgrun.envs.tensor import Outcome, World
from pgrun.envs.worlds import box
from pgrun.errors import UserError

spaces = gym.spaces


Goal = Literal["east", "west", "north", "south"]


class MultiGoal(World):
    """A point on a plane with up to four equally good goals, at (±d, 0) and (0, ±d).

    It starts in the middle, and the episode ends at any goal. Haarnoja et al. 2017, https://arxiv.org/abs/1702.08165,
    section 5.1, with the costs of its code.

    A step moves by the action and costs `action_cost` ‖a‖² and `distance_cost` times the squared distance to the
    nearest goal. The goal that was reached is logged as `goal_east`, `goal_west`, `goal_north` and `goal_south`: 1 in
    an episode that ended there.

    Args:
        distance: d, of each goal from the middle.
        radius: how near a goal counts as reached.
        goal_reward: reward for reaching a goal.
        action_cost, distance_cost: of a step.
        spread: standard deviation of the start around (0, 0).
        goals: names of those that there are.
    """

    NAMES: tuple[Goal, ...] = ("east", "west", "north", "south")
    EDGE = 7.0  # of the plane

    def __init__(
        self,
        *,
        distance: Positive,
        radius: Positive,
        goal_reward: float,
        action_cost: NotNegative,
        distance_cost: NotNegative,
        spread: NotNegative,
        goals: Sequence[Goal] = NAMES,
    ) -> None:
        self.names = tuple(goals)
        if not self.names or len({*self.names}) < len(self.names):
            raise UserError(f"env.world.goals={list(goals)} must name one goal or several, each once")
        if not math.sqrt(2.0) * radius <= distance <= self.EDGE:  # else goals overlap, or one is not on the plane
            raise UserError(f"env.world.distance={distance} must lie between √2 env.world.radius and {self.EDGE:g}")
        places = {"east": [1.0, 0.0], "west": [-1.0, 0.0], "north": [0.0, 1.0], "south": [0.0, -1.0]}
        self.goals = distance * torch.tensor([places[name] for name in self.names])
        self.radius, self.goal_reward, self.spread = radius, goal_reward, spread
        self.action_cost, self.distance_cost = action_cost, distance_cost
        self.obs_space, self.action_space = box([-self.EDGE] * 2, [self.EDGE] * 2), box([-1.0] * 2, [1.0] * 2)

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw start states; see `World.initial`."""
        return self.spread * torch.randn(n, 2, generator=rng)

    def observe(self, state: Tensor) -> Tensor:
        """Show the position; see `World.observe`."""
        return state

    def distances(self, state: Tensor) -> Tensor:
        """Return the distances from states [..., 2] to the G goals, [..., G]."""
        return (state.unsqueeze(-2) - self.goals).norm(dim=-1)

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Move the point; see `World.step`."""
        after = (state + action).clamp(-self.EDGE, self.EDGE)
        distances = self.distances(after)
        reached = distances < self.radius  # [B, G]; the circles do not meet
        there = reached.any(-1)
        cost = self.action_cost * action.square().sum(-1) + self.distance_cost * distances.amin(-1).square()
        reward = self.goal_reward * there.float() - cost
        which = {f"goal_{name}": x.float() for name, x in zip(self.names, reached.unbind(-1), strict=True)}
        return Outcome(after, reward, there, which)


class BimodalBandit(World):
    """A bandit with nothing to see and two best actions: the reward is a bump of height 1 around each.

    An episode is one step. The nearer of the two is logged as `mode_left` and `mode_right`.

    Args:
        modes: the two actions, the smaller one first.
        width: standard deviation of a bump.
    """

    def __init__(self, *, modes: Sequence[float], width: Positive) -> None:
        left, right = modes
        if not -1.0 <= left < right <= 1.0:
            raise UserError(f"env.world.modes={[left, right]} must be two actions from −1 to 1, the smaller one first")
        self.modes, self.width = torch.tensor([left, right], dtype=torch.float32), width
        self.obs_space, self.action_space = box([-1.0], [1.0]), box([-1.0], [1.0])

    def initial(self, n: int, rng: torch.Generator) -> Tensor:
        """Return start states, all 0; see `World.initial`."""
        return torch.zeros(n, 1)

    def observe(self, state: Tensor) -> Tensor:
        """Show the state, always 0; see `World.observe`."""
        return state

    def pay(self, action: Tensor) -> Tensor:
        """Return the reward of actions [..., 1]: max_i exp(−½ ((a − m_i)/w)²), [...]."""
        return (-0.5 * ((action - self.modes) / self.width).square()).exp().amax(-1)

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator) -> Outcome:
        """Pay the reward and end the episode; see `World.step`."""
        left = (action.squeeze(-1) < self.modes.mean()).float()
        over = torch.ones(len(state), dtype=torch.bool)
        return Outcome(state, self.pay(action), over, {"mode_left": left, "mode_right": 1.0 - left})
