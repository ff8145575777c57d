"""A memory as a user may misspell it."""

from __future__ import annotations

from typing import Any

from pgrun.memory.latest import Latest


class Misspelt(Latest):
    """A memory whose `batches` is misspelt."""

    def batchs(self) -> Any:
        """Never called."""
