"""Runs as Python sees them: a folder, and what it holds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgrun.errors import UserError
from pgrun.run.console import shown

if TYPE_CHECKING:
    from pgrun.after.acting import Policy
    from pgrun.run.curves import Curve


class Run:
    """A run, finished or not: `pgrun.train` returns one, and `pgrun.Run(FOLDER)` is one from before.

    Attributes:
        folder: the run directory.
        over: why `pgrun.resume` found nothing left to do; empty if it went on.

    Args:
        folder: the run directory.

    Raises:
        UserError: it is no run directory.
    """

    def __init__(self, folder: str | os.PathLike[str], *, over: str = "") -> None:
        from pgrun.run.directory import check_run  # loads torch, which `pgrun.compose` does without

        self.folder, self.over = Path(folder).absolute(), over
        check_run(self.folder)

    @property
    def result(self) -> dict[str, Any]:
        """The content of result.json: status, figures, and where they come from; {} while the run isn't over."""
        path = self.folder / "result.json"
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} can't be read: {error}") from error
        return content if isinstance(content, dict) else {}

    @property
    def status(self) -> str:
        """How it ended: finished, interrupted, diverged, failed; "" while it isn't over, or if it was killed."""
        return str(self.result.get("status", ""))

    @property
    def curves(self) -> dict[str, Curve]:
        """The curves, read anew: name -> (steps, values), two arrays. They are what TensorBoard shows."""
        from pgrun.run.curves import read_curves

        return read_curves(self.folder)

    def policy(self, checkpoint: str | os.PathLike[str] = "latest", **how: Any) -> Policy:
        """Load the policy; see `pgrun.load`, which takes the same arguments."""
        from pgrun.api.loading import load

        return load(self, checkpoint, **how)

    def __fspath__(self) -> str:
        """Return the folder, so that a run can be given where a path can."""
        return str(self.folder)

    def __repr__(self) -> str:
        """Say where the run is and how it went."""
        result = self.result
        if not result:
            return f"<pgrun.Run: {shown(self.folder)}, not over>"
        mean = result.get("eval_return_mean")
        figure = "" if mean is None else f", return {mean:.1f}"
        where = shown(self.folder)
        return f"<pgrun.Run: {where}, {result['algo']} on {result['env']}, {result['status']}{figure}>"
