"""Statistics of the steps since a curve's last point: rewards, actions, observations, and how episodes ended.

Shapes: T time, B environments, K rows kept since the last point.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.data.types import Transition

KEPT = 100_000  # the most rows that are kept between two points
OBSERVATIONS = 4_096  # the most observations that are kept between two points
WIDEST = 1_024  # numbers of the largest observation that is looked at
AT_BOUND = 0.99  # of the way to a bound of ±1, from where an action counts as at its bound


class StepStats:
    """Figures of the steps that a collector brings, computed only when a point of the curves is written.

    Until then references to the rollouts' tensors are kept, so that a step costs next to nothing.

    Args:
        action_space: the actions that policies see, whose bounds are ±1; None where nothing is said of actions.
    """

    def __init__(self, action_space: gym.Space | None = None) -> None:
        self.space = action_space
        self.kept: dict[str, list[Tensor]] = {"reward": [], "action": [], "obs": []}
        self.rows = self.observations = 0
        self.ends: list[tuple[int, bool]] = []  # (length, whether it terminated) of each episode that ended

    def add(self, rollout: Transition) -> None:
        """Keep a rollout's steps, [T, B, ...]."""
        n = rollout.valid.numel()
        if self.rows >= KEPT:
            return
        self.rows += n
        reward = rollout.reward
        here = rollout.valid
        while here.dim() < reward.dim():  # several agents
            here = here.unsqueeze(-1)
        whole = bool(rollout.valid.all())
        self.kept["reward"].append(reward if whole else reward[here.expand_as(reward)])
        if isinstance(self.space, (gym.spaces.Box, gym.spaces.Discrete)):
            self.kept["action"].append(rollout.action if whole else rollout.action[rollout.valid])
        obs = rollout.obs
        vectors = isinstance(obs, Tensor) and obs.is_floating_point() and obs.dim() == 3 and obs.shape[-1] <= WIDEST
        if vectors and self.observations < OBSERVATIONS:
            apart = -(-n // OBSERVATIONS)
            seen = (obs if whole else obs[rollout.valid]).reshape(-1, obs.shape[-1])
            self.kept["obs"].append(seen if apart == 1 else seen[::apart].clone())
            self.observations += len(self.kept["obs"][-1])

    def add_ends(self, lengths: list[int], discounts: np.ndarray) -> None:
        """Count E episodes that ended after so many steps, with their last steps' discounts, [E] or [E, agents]."""
        if lengths and len(self.ends) < KEPT:
            terminated = (discounts == 0).reshape(len(lengths), -1).all(-1)  # for all agents
            self.ends += zip(map(int, lengths), terminated.tolist(), strict=True)

    def take(self) -> dict[str, float]:
        """Return the figures since the last call, by the tags of their curves; {} where there was no step."""
        figures = {**self.of_rewards(), **self.of_actions(), **self.of_observations(), **self.of_ends()}
        for kept in self.kept.values():
            kept.clear()
        self.rows, self.observations, self.ends = 0, 0, []
        return figures

    def column(self, name: str) -> Tensor | None:
        """Join what is kept of one kind into rows [K, ...], in float64; None where there is nothing."""
        return self.joined(name, parts).double() if (parts := self.kept[name]) else None

    def of_rewards(self) -> dict[str, float]:
        """Return mean, standard deviation and largest size of the rewards that are learnt from."""
        if (reward := self.column("reward")) is None or not len(reward):
            return {}
        return {
            "reward/mean": float(reward.mean()),
            "reward/std": float(reward.std(correction=0)),
            "reward/largest": float(reward.abs().max()),
        }

    def of_actions(self) -> dict[str, float]:
        """Return the share of actions at a bound, or of the one that is taken most; and a uniform policy's entropy."""
        if (action := self.column("action")) is None or not len(action):
            return {}
        if isinstance(self.space, gym.spaces.Discrete):
            most = int(torch.bincount(action.long().flatten()).max())
            return {"action/most_taken": most / len(action), "action/uniform_entropy": math.log(int(self.space.n))}
        assert isinstance(self.space, gym.spaces.Box)
        if not np.isfinite(self.space.high).all():
            return {}
        return {
            "action/at_bounds": float((action.abs() >= AT_BOUND).double().mean()),
            "action/uniform_entropy": math.log(2.0) * math.prod(self.space.shape),
        }

    def of_observations(self) -> dict[str, float]:
        """Return the largest root mean square among the coordinates of what is observed."""
        if (obs := self.column("obs")) is None or not len(obs):
            return {}
        return {"obs/largest_rms": float(obs.square().mean(0).sqrt().max())}

    def of_ends(self) -> dict[str, float]:
        """Return how episodes ended: by termination or truncation, and at what lengths."""
        if not self.ends:
            return {}
        died = [length for length, terminated in self.ends if terminated]
        cut = [length for length, terminated in self.ends if not terminated]
        figures = {"episode/terminated": len(died) / len(self.ends)}
        if died:
            figures["episode/longest_terminated"] = max(died)
            figures["episode/terminated_at_longest"] = died.count(max(died)) / len(died)
        if cut:
            figures |= {"episode/shortest_truncated": min(cut), "episode/longest_truncated": max(cut)}
        return figures

    def snapshot(self) -> dict[str, Any]:
        """Return what is kept, as tensors and plain values."""
        return {
            "kept": {name: self.joined(name, parts) for name, parts in self.kept.items() if parts},
            "rows": self.rows,
            "observations": self.observations,
            "ends": [list(end) for end in self.ends],
        }

    def joined(self, name: str, parts: list[Tensor]) -> Tensor:
        """Join parts of one kind as they are, flat but for the last axis of observations and Box actions."""
        wide = parts[0].shape[-1:] if name == "obs" or (name, type(self.space)) == ("action", gym.spaces.Box) else ()
        return torch.cat([part.reshape(-1, *wide).cpu() for part in parts])

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot."""
        self.kept = {name: [state["kept"][name]] if name in state["kept"] else [] for name in self.kept}
        self.rows, self.observations = state["rows"], state["observations"]
        self.ends = [(int(length), bool(terminated)) for length, terminated in state["ends"]]
