"""Profile the run of a command line."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pgrun.system.age import process_age

# what a run imports, in its order: each with its name in the table of the start
IMPORTS = {
    "hydra": "importing Hydra",
    "torch": "importing torch",
    "gymnasium": "importing Gymnasium",
    "pgrun.run.tensorboard": "importing TensorBoard",
    "pgrun.api.composing": "importing the rest of pgrun",
    "pgrun.run.profiling.profile": "importing the rest of pgrun",
}


class Laps:
    """Times one thing after the other, from the begin of the process on."""

    def __init__(self) -> None:
        self.begin = self.before = time.perf_counter() - process_age()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Count the time since the last call as this thing's."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.before
        self.before = now


def profile(argv: Sequence[str], *, steps: int | None, seconds: float, ops: bool) -> dict[str, Any]:
    """Run a short stretch of the run that a command line asks for, and return where its time goes.

    Args:
        argv: the command line, without `pgrun`.
        steps: environment steps to measure; None: so many seconds.
        seconds: seconds to measure.
        ops: also watch which operations take the time.

    Raises:
        UserError: a setting is wrong, the run can't be profiled, or an environment failed.
        Diverged: the run diverged.
    """
    laps = Laps()
    loaded = "torch" in sys.modules  # by whoever called: then nothing of the start can be told
    laps.lap("Python and the command itself")
    for module, name in IMPORTS.items():
        import_module(module)
        laps.lap(name)
    from pgrun.api.composing import composed_for_a_run
    from pgrun.config.resolve import resolved
    from pgrun.run.preflight import prepare
    from pgrun.run.profiling.profile import profile_run
    from pgrun.system.signals import interruptible

    with composed_for_a_run(argv) as config, interruptible():
        laps.lap("composing the config")
        parts = prepare(config)
        laps.lap("checking it, and building the parts")
        return profile_run(
            resolved(config),
            parts,
            config.hydra,
            {} if loaded else laps.seconds,
            begin=laps.begin,
            steps=steps,
            seconds=seconds,
            ops=ops,
        )


def check_writable(file: Path) -> None:
    """Raise UserError unless a file of this name can be written."""
    from pgrun.errors import UserError

    if file.is_dir():
        raise UserError(f"--json {file} is a folder: name a file")
    if not file.parent.is_dir():
        raise UserError(f"--json {file}: there is no folder {file.parent}")
