"""A memory of demonstrations beside the algorithm's own episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from pgrun.collect.demonstrations import demonstrated, with_log_prob
from pgrun.config.ranges import Count, FileName
from pgrun.data.types import Transition, VectorEnv, map_transition
from pgrun.envs.episode_file import episodes
from pgrun.memory.side_by_side import mark, side_by_side


class Guided:
    """Demonstrations and the episodes of the last `capacity` rollouts, in one batch with an episode a column.

    extras["fresh"] marks the rows of the latest rollout. Demonstrations have −1 in extras["source"], and their own
    log_prob, NaN where it is unknown. The rollouts' other extras are zero there.

    Args:
        demonstrations: an .npz or .csv file, or minari:ID; null: no guides.
        capacity: rollouts kept, each with its policy.
    """

    offers = "rollouts"

    def __init__(self, *, demonstrations: FileName | None, capacity: Count, env: VectorEnv, learn_device: str) -> None:
        self.device = torch.device(learn_device)
        self.guides = None if demonstrations is None else with_log_prob(demonstrated(demonstrations, env))
        self.rollouts: deque[Transition] = deque(maxlen=capacity)

    def add(self, rollout: Transition) -> None:
        """Add the episodes of a rollout."""
        self.rollouts.append(map_transition(lambda x: x.to(self.device), episodes(rollout)))

    def batches(self) -> Iterator[Transition]:
        """Yield everything as one batch [T, E, ...]."""
        *before, latest = self.rollouts
        parts = [*(mark(rollout, fresh=False) for rollout in before), mark(latest, fresh=True)]
        if self.guides is not None:
            t, e = self.guides.reward.shape
            recorded = {"source": torch.full((t, e), -1), **self.guides.extras}
            like = {key: x.new_zeros((t, e, *x.shape[2:])) for key, x in parts[-1].extras.items()}
            extras = {key: recorded.get(key, other).to(other) for key, other in like.items()}
            parts.insert(0, map_transition(lambda x: x.to(self.device), self.guides._replace(extras=extras)))
        yield side_by_side(parts)

    def figures(self) -> dict[str, float]:
        """Return how full it is, for a curve: the share of the rollouts that it can keep."""
        return {"fill": len(self.rollouts) / (self.rollouts.maxlen or 1)}

    def snapshot(self) -> dict[str, Any]:
        """Return the rollouts; see `Memory.snapshot`."""
        return {"rollouts": [rollout._asdict() for rollout in self.rollouts]}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot; see `Memory.restore`."""
        self.rollouts.clear()
        for saved in state["rollouts"]:
            self.rollouts.append(map_transition(lambda x: x.to(self.device), Transition(**saved)))
