"""Uniformly random actions, with which a run may begin."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium as gym
import torch
from torch import Tensor

from pgrun.data.types import Obs, to_blocks


def random_actions(space: gym.Space) -> Callable[[int], Tensor]:
    """Return a function that draws B actions [B, *A] uniformly from a space.

    A canonical Box is [−1, 1]; for a Dict of agents the actions are joint ones.
    """
    spaces = gym.spaces
    if isinstance(space, spaces.Dict):
        draws = [(random_actions(part), part) for part in space.values()]
        return lambda b: torch.cat([to_blocks(draw(b), part) for draw, part in draws], -1)
    if isinstance(space, spaces.Discrete):
        return lambda b: torch.randint(int(space.n), (b,))
    if isinstance(space, spaces.MultiDiscrete):
        sizes = torch.as_tensor(space.nvec.flatten())
        return lambda b: (torch.rand(b, len(sizes)) * sizes).long()
    if isinstance(space, spaces.MultiBinary):
        return lambda b: torch.randint(2, (b, *space.shape)).float()
    return lambda b: torch.rand(b, *(space.shape or ())) * 2.0 - 1.0


def legal(action: Tensor, obs: Obs) -> Tensor:
    """Redraw the discrete actions [B] that obs["action_mask"] [B, n] forbids, uniformly from the allowed ones."""
    if not isinstance(obs, dict) or "action_mask" not in obs:
        return action
    allowed = obs["action_mask"].to(action.device) != 0
    drawn = (torch.rand(allowed.shape) * allowed).argmax(-1)
    return torch.where(allowed.gather(-1, action.unsqueeze(-1)).squeeze(-1), action, drawn)
