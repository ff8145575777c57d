"""Potential-based shaping: rewards that guide learning and leave the optimal policy as it is.

They guide learning from returns. A critic fitted to shaped returns learns V − Φ, and its advantages are the unshaped
ones again.

Ng, Harada & Russell 1999, https://people.eecs.berkeley.edu/~pabbeel/cs287-fa09/readings/NgHaradaRussell-shaping-ICML1999.pdf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.config.ranges import CountOrZero
from pgrun.data.types import NOT_CHANGED, ChangeableEnv, Obs, Step, VectorEnv
from pgrun.errors import UserError

Potential = Callable[[Obs], Tensor]  # Φ: observations [B, *O] -> [B]


class Shaped:
    """Environments with γΦ(s′) − Φ(s) added to the reward, Φ(terminal) = 0.

    If a time limit cuts an episode the world goes on, so Φ(s′) stays. The environment's own reward is logged as
    `return`, the reward that is learnt from as `return_shaped`.

    Args:
        env: the environments.
        potential: Φ.
        gamma: the algorithm's γ; with another one the shaping would change the optimal policy.
    """

    def __init__(self, env: VectorEnv, potential: Potential, gamma: float) -> None:
        self.env, self.gamma, self.potential = env, gamma, potential
        self.num_envs, self.obs_space, self.action_space = env.num_envs, env.obs_space, env.action_space
        self.taken = getattr(env, "taken", None)
        self.ungrouped = getattr(env, "ungrouped", "it has no groups")
        self.unchangeable = getattr(env, "unchangeable", NOT_CHANGED)
        self.phi = self.value(_zeros(env.obs_space, env.num_envs))  # Φ(s_t); a potential that fails is refused now

    def value(self, obs: Obs) -> Tensor:
        """Compute Φ of observations [B, *O], as float32 [B]."""
        phi, due = self.potential(obs), (self.num_envs,)
        if not isinstance(phi, Tensor) or phi.shape != due:
            given = tuple(phi.shape) if isinstance(phi, Tensor) else type(phi).__name__
            raise UserError(f"env.shaping: the potential gives {given} where {due} is due, one number an environment")
        return phi.float()

    def reset(self, seed: int | None = None, group: int = 1) -> Obs:
        """Start new episodes; see `VectorEnv.reset`."""
        obs = self.env.reset(seed) if group == 1 else self.env.reset(seed, group)
        self.phi = self.value(obs)
        return obs

    def step(self, action: Tensor) -> Step:
        """Take one step and shape its rewards; see `VectorEnv.step`."""
        step = self.env.step(action)
        after = self.value(step.next_obs)  # Φ(s_{t+1})
        to_come = torch.where(step.discount > 0.0, self.gamma * after, 0.0)
        shaped = step.reward + to_come - self.phi
        shaped = torch.where(step.valid, shaped, step.reward)
        self.phi = after if step.obs is step.next_obs else self.value(step.obs)
        streams = {"return": step.reward, **step.streams, "return_shaped": shaped}
        return step._replace(reward=shaped, streams=streams)

    def change(self, arguments: Mapping[str, Any]) -> None:
        """Have each copy's next episode begin with other arguments; see `ChangeableEnv.change`."""
        cast(ChangeableEnv, self.env).change(arguments)

    def snapshot(self) -> dict[str, Any] | None:
        """Return the environments' state and Φ; see `VectorEnv.snapshot`."""
        inner = self.env.snapshot()
        return None if inner is None else {"env": inner, "phi": self.phi.clone()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot; see `VectorEnv.restore`."""
        self.env.restore(state["env"])
        self.phi = state["phi"].clone()

    def outside(self) -> Any:
        """Return how the environment's own observations and actions become the policy's."""
        return self.env.outside()  # type: ignore[attr-defined]

    @property
    def why_stateless(self) -> str:
        """The reason why there is no snapshot."""
        return getattr(self.env, "why_stateless", "")

    def close(self) -> None:
        """Close the environments."""
        self.env.close()


def _zeros(space: gym.Space, n: int) -> Obs:
    if isinstance(space, gym.spaces.Dict):
        return {key: _zeros(part, n) for key, part in space.items()}
    return torch.from_numpy(np.zeros((n, *(space.shape or ())), space.dtype))


class Coordinate:
    """A potential of one coordinate of the observation, the higher the better: Φ(s) = scale · s[index].

    Args:
        index: which number of the observation.
        scale: how much Φ weighs beside the environment's own rewards.
    """

    def __init__(self, *, index: CountOrZero, scale: float) -> None:
        self.index, self.scale = index, scale

    def __call__(self, obs: Tensor) -> Tensor:
        """Compute Φ of observations [B, O]; [B]."""
        _check_indices(obs, [self.index])
        return self.scale * obs[:, self.index]


class Distance:
    """A potential of the distance to a point, the nearer the better: Φ(s) = −scale · ‖s[indices] − goal‖.

    Args:
        indices: which numbers of the observation.
        goal: where these should be.
        scale: how much Φ weighs beside the environment's own rewards.
    """

    def __init__(self, *, indices: Sequence[CountOrZero], goal: Sequence[float], scale: float) -> None:
        if len(indices) != len(goal):
            raise UserError(f"env.shaping: {len(indices)} indices and {len(goal)} numbers of a goal; give as many")
        self.indices, self.goal, self.scale = list(indices), torch.tensor(goal, dtype=torch.float32), scale

    def __call__(self, obs: Tensor) -> Tensor:
        """Compute Φ of observations [B, O]; [B]."""
        _check_indices(obs, self.indices)
        return -self.scale * (obs[:, self.indices] - self.goal).norm(dim=-1)


def _check_indices(obs: Obs, indices: Sequence[int]) -> None:
    if not isinstance(obs, Tensor) or obs.dim() != 2:
        raise UserError("this env.shaping reads vectors of numbers: use env/shaping=function for other observations")
    if over := [i for i in indices if not -obs.shape[1] <= i < obs.shape[1]]:
        raise UserError(f"env.shaping: there is no coordinate {over[0]}; observations have {obs.shape[1]}")
