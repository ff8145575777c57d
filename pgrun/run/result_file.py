"""The files that a run ends with: result.json, and the log."""

from __future__ import annotations

import json
import logging
import math
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgrun.errors import Diverged, EnvFailed, EnvNotFinite, Failed, UserError
from pgrun.run.console import pasted, shown
from pgrun.run.manifest import write_known
from pgrun.system.atomic import replace

if TYPE_CHECKING:
    from pgrun.collect.episode_stats import EpisodeStats
    from pgrun.loop.evaluate import Evaluation
    from pgrun.loop.hooks import Evaluate
    from pgrun.loop.train import Clock

log = logging.getLogger("pgrun")


def note_traceback(folder: Path, error: Failed) -> None:
    """Append the traceback of an environment's or a hook's failure to pgrun.log, if that can be written."""
    with suppress(OSError), open(folder / "pgrun.log", "a", encoding="utf-8") as file:
        file.write(f"{error}\n{error.trace}")


def fields(stats: EpisodeStats, evaluation: Evaluate, final: Evaluation | None) -> dict[str, Any]:
    """Return the returns of training and evaluation, as fields of result.json.

    Args:
        stats: training's episodes, of which the last 100 count.
        evaluation: the evaluations during training.
        final: the evaluation at the end, if there was one.
    """
    recent = list(stats.recent)
    infos = {name: sum(values) / len(values) for name, values in stats.recent_infos.items() if values}
    return {
        "train_return_mean": sum(recent) / len(recent) if recent else None,
        **info_fields("train", infos),
        "eval_return_mean": final.mean if final else None,
        "eval_return_std": final.std if final else None,
        **({f"eval_{name}_mean": mean for name, mean in final.stream_means.items()} if final else {}),
        **info_fields("eval", final.info_means if final else {}),
        "eval_episodes": len(final.returns) if final else 0,
        "eval_episodes_cut": final.cut if final else 0,
        "eval_stochastic": evaluation.stochastic,
        "best_eval_return_mean": evaluation.best,
    }


def info_fields(begin: str, means: dict[str, float]) -> dict[str, float]:
    """Return the means of numbers of `info` as fields: eval_success_rate, eval_info_<key>."""
    return {f"{begin}_{name.replace('/', '_')}": mean for name, mean in means.items()}


def diverged(error: Diverged, clock: Clock, kept: Path) -> Diverged:
    """Extend an error by where the run diverged and which checkpoint is left.

    Args:
        error: says which value was not finite.
        clock: the run's.
        kept: the path of its last checkpoint, which may not exist.
    """
    where = f"the last good checkpoint is {kept.resolve().name}" if kept.exists() else "there is no checkpoint yet"
    found = f"{error}, {error.when}" if error.when else str(error)
    at = f"environment step {clock.steps + error.steps:,}, update {clock.updates:,}"
    return Diverged(f"{found}, at {at}; {where}. {error.remedy}")


def cause(error: Diverged) -> dict[str, str]:
    """Return why a run diverged, as fields of result.json."""
    found = f"{error}, {error.when}" if error.when else str(error)
    return {"cause": found, "cause_from": "environment" if isinstance(error, EnvNotFinite) else "learning"}


def failed(error: Failed, folder: Path, kept: Path) -> UserError:
    """Extend an environment's or a hook's error by where its traceback is and which checkpoint is left.

    Args:
        error: the error.
        folder: the run directory.
        kept: the path of its last checkpoint, which may not exist.
    """
    none = "nothing was learnt" if isinstance(error, EnvFailed) else "there was no checkpoint yet"
    more = f"pgrun resume {pasted(folder)} goes on from {kept.resolve().stem}" if kept.exists() else none
    return type(error)(f"{error}; the traceback is in {shown(folder) / 'pgrun.log'}; {more}", error.trace)


def env_unusable(error: Exception) -> EnvFailed:
    """Make the error of an environment that breaks its interface when a run has begun already."""
    return EnvFailed(f"an environment can't be used: {error}", "".join(traceback.format_exception(error)))


def end_with(*closers: Callable[[], None]) -> None:
    """Call each function even if others fail; log failures, so that none hides the error that ended the run."""
    ended = isinstance(sys.exception(), UserError)  # perhaps the same disk error that comes up here again
    for closer in closers:
        try:
            closer()
        except Exception as error:
            if not (ended and isinstance(error, OSError)):
                log.error("at the end of the run: %s: %s", type(error).__name__, error)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file in one step; NaN and infinities become null."""
    replace(path, as_json(content))


def write_result(folder: Path, content: dict[str, Any], name: str = "result.json") -> None:
    """Write a run's result.json, or another JSON file of its own, in one step, and enter it in the manifest."""
    write_known(folder, name, as_json(content))


def as_json(content: dict[str, Any]) -> bytes:
    """Return the bytes of a JSON file; NaN and infinities become null."""
    return (json.dumps(finite(content), indent=2) + "\n").encode()


def finite(value: Any) -> Any:
    """Copy nested values, with None in place of numbers that JSON doesn't have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
