"""A stop where evaluations no longer rise."""

from __future__ import annotations

from typing import Any

from pgrun.config.ranges import Count, NotNegative
from pgrun.errors import UserError
from pgrun.loop.moments import Plan, RunHook, RunView


class Plateau(RunHook):
    """Stops a run when the evaluations' mean return hasn't risen for so many evaluations.

    Args:
        patience: evaluations in a row without a rise that end the run.
        min_delta: a mean return counts as a rise where it is more than this above the best that counted.
    """

    def __init__(self, *, patience: Count, min_delta: NotNegative) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.best: float | None = None
        self.waited = 0  # evaluations since then

    def check(self, plan: Plan) -> None:
        """Refuse a run without evaluations."""
        if plan.config["eval"]["every"] is None:
            raise UserError("it waits for evaluations, and eval.every=null makes none: give it a number of steps")

    def evaluation(self, view: RunView) -> None:
        """Compare the latest evaluation with the best."""
        assert view.evaluation is not None
        mean = view.evaluation.mean
        if self.best is None or mean > self.best + self.min_delta:
            self.best, self.waited = mean, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            view.stop(f"{self.waited} evaluations in a row did not rise above {self.best:g} by {self.min_delta:g}")

    def state_dict(self) -> dict[str, Any]:
        """Return the best mean return, and how long ago it was."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.best, self.waited = state["best"], state["waited"]
