"""Weights & Biases: curves, config and result of a run."""

from __future__ import annotations

import os
import uuid
from itertools import groupby
from typing import Any, Literal

from pgrun.hooks.packages import need
from pgrun.loop.moments import RunHook, RunView


class Wandb(RunHook):
    """Logs a run to Weights & Biases: its config, every point of its curves over env_steps, and its result.

    Offline, files lie in RUN/wandb, and `wandb sync` sends them. A resumed run goes on in the same run there.

    Args:
        mode: where the run is sent, if anywhere; null: as the variable WANDB_MODE says.
        project: the project's name.
        name: the run's name; null: that of its directory.
    """

    def __init__(self, *, mode: Literal["offline", "online"] | None, project: str, name: str | None) -> None:
        need("wandb", "wandb")
        self.mode, self.project, self.name = mode, project, name
        self.id = uuid.uuid4().hex[:12]
        self.run: Any = None

    def start(self, view: RunView) -> None:
        """Begin the run there, or go on with it."""
        if self.mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.run = wandb.init(
            project=self.project,
            name=self.name or view.folder.name,
            id=self.id,
            resume="allow",
            mode=self.mode,
            dir=str(view.folder),
            config=dict(view.config),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.run.define_metric("env_steps")
        self.run.define_metric("*", step_metric="env_steps")

    def update(self, view: RunView) -> None:
        """Log the points of curves since the last update."""
        for step, points in groupby(view.points, key=lambda point: point[2]):
            self.run.log({"env_steps": step, **{name: value for name, value, _ in points}})

    def end(self, view: RunView) -> None:
        """Log the last points and the result."""
        if self.run is None:  # it did not begin
            return
        self.update(view)
        plain = (bool, int, float, str)
        self.run.summary.update({key: x for key, x in view.result.items() if isinstance(x, plain)})
        failed = view.result["status"] in ("failed", "diverged")
        self.run.finish(exit_code=int(failed))
        self.run = None

    def state_dict(self) -> dict[str, Any]:
        """Return the run's id there."""
        return {"id": self.id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.id = state["id"]
