"""Functions that are recorded and compiled where they can be."""

from __future__ import annotations

import logging
from typing import Any

from pgrun.errors import CantRecord
from pgrun.optim.compiled import Recorded

log = logging.getLogger("pgrun")


class PerhapsRecorded(Recorded):
    """A function on the CPU that is compiled at its first call; where it can't be recorded, it is called as it is.

    See `Recorded`; no gradient flows through it in either case.
    """

    able = True  # until it turns out that it can't be recorded

    def __call__(self, *args: Any) -> Any:
        """Call the function, compiled if that is possible."""
        if self.able:
            try:
                return super().__call__(*args)
            except CantRecord as why:
                self.able = False
                log.info("compile=true: %s isn't compiled: %s", self.function.__name__, why)
        return self.function(*args)
