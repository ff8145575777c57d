"""The grid sweeper: every combination of the given values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgrun.compat.hydra import BasicSweeper
from pgrun.config.ranges import Count


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper, except that it leaves composing the jobs to the launcher.

    Args:
        max_batch_size: jobs that a launcher gets at a time; null: all.
        params: values for keys, as on the command line: {optimizer.lr: '1e-3,1e-4'}.
    """

    def __init__(self, max_batch_size: Count | None = None, params: Mapping[str, str] | None = None) -> None:
        # no super(): Hydra executes its plugins' modules again, and super() may then find another BasicSweeper
        self.max_batch_size, self.params = max_batch_size, dict(params or {})
        self.overrides, self.batch_index = None, 0
        self.hydra_context = self.config = self.launcher = None

    def validate_batch_is_legal(self, batch: Any) -> None:
        """Do nothing: the launcher composes each job."""
