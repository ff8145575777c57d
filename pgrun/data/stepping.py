"""Steps of environments, whose last observations need not be finite."""

from __future__ import annotations

import torch
from torch import Tensor

from pgrun.data.types import Obs, Step, VectorEnv, map_obs


def stepped(env: VectorEnv, action: Tensor) -> Step:
    """Step the environments; numbers that aren't finite in an observation that ends an episode become 0.

    Nothing is done there and nothing is bootstrapped from it, but 0 · NaN would be NaN.
    """
    return settled(env.step(action))


def settled(step: Step) -> Step:
    """Put 0 for numbers that aren't finite in a step's observations that end an episode; see `stepped`."""
    if not bool(step.last.any()):
        return step
    over = step.last & (step.discount.reshape(len(step.last), -1) == 0).all(-1)
    next_obs = finite_where(step.next_obs, over)
    same = step.obs is step.next_obs  # the next row is filler
    return step._replace(next_obs=next_obs, obs=next_obs if same else step.obs)


def finite_where(obs: Obs, there: Tensor) -> Obs:
    """Put 0 for numbers that aren't finite in observations [..., *O] at the rows `there` [...]."""

    def finite(x: Tensor) -> Tensor:
        if not x.is_floating_point() or bool(torch.isfinite(x).all()):
            return x
        rows = there.reshape(there.shape + (1,) * (x.dim() - there.dim()))
        return torch.where(rows & ~torch.isfinite(x), 0.0, x)

    return map_obs(finite, obs)
