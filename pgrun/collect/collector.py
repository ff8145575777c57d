"""The interface of collectors, and the policy that they act with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from pgrun.collect.episode_stats import EpisodeStats
from pgrun.data.policy import Policy
from pgrun.data.types import Transition, VectorEnv


class Collector(Protocol):
    """Decides what one rollout is."""

    env: VectorEnv
    stats: EpisodeStats
    interrupted: Callable[[], bool]  # asked between two steps: whether to leave the rollout open

    def collect(self, algorithm: Policy) -> Transition | None:
        """Act and return a rollout [T, B, ...]; None where that was interrupted, and then the next call goes on."""

    def snapshot(self) -> dict[str, Any]:
        """Environment states, open episodes, what the policy remembers."""

    def restore(self, state: dict[str, Any]) -> bool:
        """Put a snapshot back; False where the environments had to start fresh episodes."""


class ActingPolicy:
    """The policy on the device where it acts: the algorithm itself, or a copy that follows it."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.copy: Policy | None = None

    def of(self, algorithm: Policy) -> Policy:
        """The policy to act with now."""
        if algorithm.device.type == self.device.type:
            return algorithm
        if self.copy is None:
            self.copy = algorithm.replica(self.device)
        self.copy.load_state_dict(algorithm.state_dict())
        self.copy.progress = algorithm.progress  # exploration has schedules
        return self.copy
