"""Every combination of the values that are given."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class GridSweeper(BasicSweeper):
    """Hydra's own, without composing all jobs once more: the launcher does that before it starts the first."""

    def validate_batch_is_legal(self, batch: Any) -> None:
        """The launcher composes each job."""
