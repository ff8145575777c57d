"""Rollouts of unequal length as one batch: marked, cut, padded and put side by side."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pgrun.data.types import Transition, map_obs, pad


def mark(rollout: Transition, *, fresh: bool) -> Transition:
    """Add extras["fresh"] [T, B]: True if no update has seen the rollout."""
    return rollout._replace(extras={**rollout.extras, "fresh": torch.full_like(rollout.valid, fresh)})


def cut(rollout: Transition) -> Transition:
    """Mark the final row as `last`, so that no trace crosses into what is put after it."""
    last = rollout.last.clone()
    last[-1] = True
    return rollout._replace(last=last)


def side_by_side(rollouts: list[Transition]) -> Transition:
    """Put rollouts [T_i, B_i, ...] of the same fields side by side: [max T_i, ΣB_i, ...].

    No trace crosses into the padding.
    """
    length = max(rollout.reward.shape[0] for rollout in rollouts)
    first, *others = [x if x.reward.shape[0] == length else pad(cut(x), length) for x in rollouts]
    return Transition(
        *(map_obs(lambda *x: torch.cat(x, 1), field, *(o[i] for o in others)) for i, field in enumerate(first))
    )


def tensors(transition: Transition) -> Iterator[Tensor]:
    """Yield every tensor of a transition, in a fixed order."""
    for field in transition:
        if isinstance(field, dict):
            yield from field.values()
        else:
            yield field
