"""Rollouts that fail in every worker but the leader."""

from pgrun.collect.rollouts import Rollouts


class Broken(Rollouts):
    """Rollouts that fail in every worker but the leader."""

    def __init__(self, *, rank=0, **common):
        super().__init__(**common)
        self.rank = rank

    def collect(self, algorithm):
        if self.rank:
            raise ZeroDivisionError("a simulator's own message")
        return super().collect(algorithm)
