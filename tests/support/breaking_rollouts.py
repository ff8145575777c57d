"""Rollouts that fail in every worker but the leader."""

from typing import Any

from pgrun.collect.rollouts import Rollouts
from pgrun.data.policy import Policy
from pgrun.data.types import Transition


class Broken(Rollouts):
    """Rollouts that fail in every worker but the leader."""

    def __init__(self, *, rank: int = 0, **common: Any) -> None:
        super().__init__(**common)
        self.rank = rank

    def collect(self, algorithm: Policy) -> Transition | None:
        if self.rank:
            raise ZeroDivisionError("a simulator's own message")
        return super().collect(algorithm)
