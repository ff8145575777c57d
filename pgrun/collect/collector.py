"""The interface of collectors, and the policy that they act with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from pgrun.collect.episode_stats import EpisodeStats
from pgrun.data.policy import Policy
from pgrun.data.types import Transition, VectorEnv


class Collector(Protocol):
    """Acts in environments and decides what one rollout is."""

    env: VectorEnv
    stats: EpisodeStats
    interrupted: Callable[[], bool]  # asked between two steps; True leaves the rollout open

    def collect(self, algorithm: Policy) -> Transition | None:
        """Act and return a rollout [T, B, ...]; None if interrupted: the next call goes on with it."""

    def snapshot(self) -> dict[str, Any]:
        """Return the environments' states, the open episodes, and what the policy remembers."""

    def restore(self, state: dict[str, Any]) -> bool:
        """Restore a snapshot; return False if the environments had to start fresh episodes."""


class ActingPolicy:
    """The policy on the device where it acts: the algorithm itself, or an updated copy."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.copy: Policy | None = None

    def of(self, algorithm: Policy) -> Policy:
        """Return the policy to act with now."""
        if algorithm.device.type == self.device.type:
            return algorithm
        if self.copy is None:
            self.copy = algorithm.replica(self.device)
        self.copy.load_state_dict(algorithm.state_dict())
        self.copy.set_progress(algorithm.progress)  # exploration has schedules
        return self.copy
