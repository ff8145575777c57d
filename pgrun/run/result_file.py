"""The files that a run ends with: result.json, and the log."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgrun.errors import Diverged, EnvFailed, UserError
from pgrun.run.console import pasted, shown
from pgrun.system.atomic import replace

if TYPE_CHECKING:
    from pgrun.collect.episode_stats import EpisodeStats
    from pgrun.loop.evaluate import Evaluation
    from pgrun.loop.hooks import Evaluate
    from pgrun.loop.train import Clock

log = logging.getLogger("pgrun")


def note_traceback(folder: Path, error: EnvFailed) -> None:
    """Append the traceback of an environment's failure to pgrun.log, where that can be written."""
    with suppress(OSError), open(folder / "pgrun.log", "a", encoding="utf-8") as file:
        file.write(f"{error}\n{error.trace}")


def fields(stats: EpisodeStats, evaluation: Evaluate, final: Evaluation | None) -> dict[str, Any]:
    """Return what a run came to, as fields of result.json.

    Args:
        stats: training's episodes, of which the last 100 count.
        evaluation: the evaluations on the way.
        final: the one at the end, if there was one.
    """
    recent = list(stats.recent)
    return {
        "train_return_mean": sum(recent) / len(recent) if recent else None,
        "eval_return_mean": final.mean if final else None,
        "eval_return_std": final.std if final else None,
        **({f"eval_{name}_mean": mean for name, mean in final.stream_means.items()} if final else {}),
        "eval_episodes": len(final.returns) if final else 0,
        "eval_episodes_cut": final.cut if final else 0,
        "eval_stochastic": evaluation.stochastic,
        "best_eval_return_mean": evaluation.best,
    }


def diverged(error: Diverged, clock: Clock, kept: Path) -> Diverged:
    """Say where a run diverged, and what is left of it.

    Args:
        error: what was not finite.
        clock: where the run stands.
        kept: its last checkpoint, which may not be there.
    """
    where = f"the last good checkpoint is {kept.resolve().name}" if kept.exists() else "there is no checkpoint yet"
    found = f"{error}, {error.when}" if error.when else str(error)
    at = f"environment step {clock.steps + error.steps:,}, update {clock.updates:,}"
    return Diverged(f"{found}, at {at}; {where}. {error.remedy}")


def env_failed(error: EnvFailed, folder: Path, kept: Path) -> EnvFailed:
    """Say where the traceback of an environment's failure is, and what is left of the run.

    Args:
        error: what the environment raised.
        folder: the run directory.
        kept: its last checkpoint, which may not be there.
    """
    where = shown(folder)
    more = (
        f"pgrun resume {pasted(folder)} goes on from {kept.resolve().stem}" if kept.exists() else "nothing was learnt"
    )
    return EnvFailed(f"{error}; the traceback is in {where / 'pgrun.log'}; {more}", error.trace)


def end_with(*closers: Callable[[], None]) -> None:
    """Call each in turn, whatever fails on the way: no failure here must hide what ended the run."""
    ended = isinstance(sys.exception(), UserError)  # what ended the run, perhaps what the disk says here, too
    for closer in closers:
        try:
            closer()
        except Exception as error:
            if not (ended and isinstance(error, OSError)):
                log.error("at the end of the run: %s: %s", type(error).__name__, error)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file in one piece; NaN and infinities become null."""
    replace(path, (json.dumps(finite(content), indent=2) + "\n").encode())


def finite(value: Any) -> Any:
    """Nested values with None in the place of each number that JSON has not."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
