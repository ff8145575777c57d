"""A budget of time on the wall's clock."""

from __future__ import annotations

from pgrun.config.ranges import Positive
from pgrun.errors import UserError
from pgrun.loop.moments import RunHook, RunView


class Budget(RunHook):
    """Stops a run after so long on the wall's clock, counted over all its sessions.

    The time of evaluations and checkpoints counts, that between two sessions doesn't.

    Args:
        seconds: how long the whole run may take; beside minutes they add up.
        minutes: how long the whole run may take, in minutes.
    """

    def __init__(self, *, seconds: Positive | None = None, minutes: Positive | None = None) -> None:
        if seconds is None and minutes is None:
            raise UserError("it needs a number of seconds or minutes, as hooks.budget.minutes=10")
        self.seconds = (seconds or 0.0) + 60.0 * (minutes or 0.0)

    def start(self, view: RunView) -> None:
        """Stop a run whose time was over before this session."""
        self.update(view)

    def update(self, view: RunView) -> None:
        """Stop the run if its time is over."""
        if view.seconds >= self.seconds:
            view.stop(f"its budget of {self.seconds:g} seconds is spent")
