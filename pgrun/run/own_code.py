"""Failures of a user's own parts, told in one line: which part, in what, and where."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pgrun.algos.parts.base import Algorithm
from pgrun.errors import Failed, PartFailed, UserError, told
from pgrun.trust.kinds import targets

HERE = Path(__file__).resolve().parents[1]  # the package pgrun
LIBRARIES = ("pgrun", "torch", "gymnasium", "hydra", "numpy", "functools")  # whose classes are nobody's own
APART = ("env", "eval", "hooks", "parallel")  # what fails there is told by others, but for a world's functions


def own_parts(config: DictConfig) -> dict[str, str]:
    """Return the classes of a run's parts that are neither pgrun's nor a library's, by dotted key."""
    plain = OmegaConf.to_container(config, resolve=False)
    found = {path: str(name) for path, name in targets(plain)}
    own = {path: name for path, name in found.items() if name.partition(".")[0] not in LIBRARIES}
    return {path: name for path, name in own.items() if path == "env.world" or path.split(".")[0] not in APART}


def failure_of(error: Exception, config: DictConfig) -> Failed | None:
    """Return the failure of an environment, a hook or another part of the user's own; None where it is none.

    Args:
        error: what was raised.
        config: the run's.
    """
    if isinstance(error, Failed):
        return error
    parts = own_parts(config)
    if isinstance(error, UserError) or not parts:
        return None
    key, name, frame = culprit(error, parts)
    who = f"{key} ({name})"
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, NotImplementedError) and frames and HERE in Path(frames[-1].filename).parents:
        said = f"{who} lacks the method {frames[-1].name}"
    elif within(frames).startswith("in differentiate ") and isinstance(error, (TypeError, ValueError)):
        said = f"{who}: its loss has to return the loss and a dict of metrics"
    elif frame is None:
        said = f"{who} does not fit: {told(error)}, {within(frames)}"
    else:
        said = f"{who} failed in {frame.name}: {told(error)} ({Path(frame.filename).name}:{frame.lineno})"
    return PartFailed(said, "".join(traceback.format_exception(error)))


def culprit(error: Exception, parts: dict[str, str]) -> tuple[str, str, traceback.FrameSummary | None]:
    """Find whose part failed: the one in whose file the error arose, else the first.

    Returns:
        The part's key, its class, and the innermost line in its file; None where the error arose beside it.
    """
    files = {getattr(sys.modules.get(name.rpartition(".")[0]), "__file__", None): key for key, name in parts.items()}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files:
            key = files[frame.filename]
            return key, parts[key], frame
    key = next(iter(parts))
    return key, parts[key], None


def within(frames: list[traceback.FrameSummary]) -> str:
    """Say in which of pgrun's functions an error arose."""
    inside = [frame for frame in frames if HERE in Path(frame.filename).parents]
    frame = inside[-1] if inside else frames[-1]
    return f"in {frame.name} ({Path(frame.filename).name}:{frame.lineno})"


@contextmanager
def own_parts_fit(config: DictConfig) -> Iterator[None]:
    """Refuse a part of the user's own that fails while the parts of a run are made: nothing is written yet."""
    try:
        yield
    except Exception as error:
        failure = failure_of(error, config)
        if failure is None:
            raise
        raise UserError(str(failure)) from error


def check_complete(algorithm: Any, target: str) -> None:
    """Raise UserError if an algorithm of the user's own lacks what every algorithm has."""
    if not isinstance(algorithm, Algorithm):
        return
    for name, call in (("act", "act(obs, carry, explore)"), ("update", "update(batch)")):
        if getattr(type(algorithm), name) is getattr(Algorithm, name):
            raise UserError(f"algo ({target}) lacks the method {call}")
