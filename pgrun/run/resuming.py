"""Going on with a run, from its last checkpoint or from its start."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pgrun.errors import UserError
from pgrun.run import checkpoint
from pgrun.run.alone import alone
from pgrun.run.build import build
from pgrun.run.changes import change, report_stale_config, top_names_of
from pgrun.run.checkpoint_content import fitting
from pgrun.run.config_hooks import stop_holds
from pgrun.run.console import pasted, remark
from pgrun.run.directory import (
    changes,
    check_begun,
    check_run,
    find_checkpoint,
    hydra_of,
    load_run,
    own_checkpoint,
    remember,
)
from pgrun.run.logs import logged
from pgrun.run.run import Run
from pgrun.trust.files import read_object
from pgrun.trust.finder import allow

# Changing these on resume leaves what was learnt usable; anything else would be another run.
RESUMABLE = (
    *("total_steps", "eval", "checkpoint", "log", "device", "act_device", "threads", "compile", "graph"),
    *("parallel.address", "parallel.cpus", "hooks"),
)


@dataclass
class Resumed:
    """How a run went on."""

    folder: Path
    result: dict[str, Any] | None = None  # the content of result.json; None where nothing was left to do
    over: str = ""  # why nothing was


def resume_run(folder: Path, which: str, overrides: list[str], *, trust: bool = False, quiet: bool = False) -> Resumed:
    """Go on with a run.

    Args:
        folder: the run directory.
        which: `latest` or a checkpoint's file.
        overrides: `key=value` of keys within `RESUMABLE`.
        trust: go on with it although it was not made here.
        quiet: print nothing and show no progress.

    Raises:
        UserError: it is no run directory, another process uses it, or a key can't change.
    """
    begin = time.perf_counter()
    config, names, state, stamp = read_run(folder, which, trust=trust)
    overrides = [text.lstrip("+") for text in overrides]  # a new key may be written as Hydra wants it
    allow(top_names_of(overrides))
    config = change(config, overrides, RESUMABLE, "when a run is resumed")
    if state is not None and (over := why_over(state, config, folder)):
        return Resumed(folder.resolve(), over=over)
    with alone(folder):
        if stamp != stamp_of(find_checkpoint(folder, which)):  # another process went on with it in the meantime
            raise UserError(f"{folder}: another process has just gone on with this run; do it again")
        return go_on(folder, which, config, names, state, overrides, begin=begin, quiet=quiet, trust=trust)


def read_run(
    folder: Path, which: str, *, trust: bool
) -> tuple[DictConfig, dict[str, str], dict[str, Any] | None, tuple[Path, int] | None]:
    """Read a run's config and names, the content of the checkpoint to go on from, if any, and that file's stamp."""
    check_run(folder)
    path = find_checkpoint(folder, which)
    stamp = stamp_of(path)
    state = checkpoint.load(path) if stamp or which != "latest" else None
    if state is not None and "memory" not in state:
        raise UserError(f"{path} holds the policy alone, for evaluation; resume from latest or a step_<n>.pt")
    config, names = load_run(folder, state if own_checkpoint(folder, path) else None, trust=trust)
    if state is None:
        check_begun(folder)
    return config, names, state, stamp


def stamp_of(path: Path) -> tuple[Path, int] | None:
    """Return a checkpoint's file and time, which change when it is written anew; None if there is none."""
    return (path.resolve(), path.stat().st_mtime_ns) if path.exists() else None


def go_on(
    folder: Path,
    which: str,
    config: DictConfig,
    names: dict[str, str],
    state: dict[str, Any] | None,
    overrides: list[str],
    *,
    begin: float,
    quiet: bool = False,
    trust: bool = False,
) -> Resumed:
    """Go on with a run from a checkpoint's content, or from its start."""
    known: dict[str, Any] = {"names": names, "hydra": hydra_of(folder), "told": changes(folder, overrides)}
    with logged(None, quiet=quiet):  # nothing is written until the checkpoint has been found to fit
        with report_stale_config(folder):
            parts = build(config, fresh=state is None)
        with fitting(find_checkpoint(folder, which)):
            run = Run(config, parts, folder.resolve(), begin=begin, resume=state, trusted=trust, quiet=quiet, **known)
    with logged(folder, quiet=quiet):
        if state is None:
            remark("there is no checkpoint yet: starting from step 0")
        remember(folder, config, overrides)
        return Resumed(folder.resolve(), run.execute())


def why_over(state: dict[str, Any], config: DictConfig, folder: Path) -> str:
    """Say why nothing is left to do for this run; "" if there is something, if only the final evaluation."""
    if (read_object(folder / "result.json") or {}).get("status") != "finished":
        return ""
    with fitting(folder / "checkpoints"):
        steps, stop_at, latest = int(state["clock"]["steps"]), config.eval.stop_at, state["evaluation"]["latest"]
    if steps >= config.total_steps:
        more = config.total_steps * (steps // config.total_steps + 1)
        return f"{steps:,} steps; to go on: pgrun resume {pasted(folder.absolute())} total_steps={more}"
    if stop_at is not None and latest is not None and latest >= stop_at:
        again = f"pgrun resume {pasted(folder.absolute())} eval.stop_at=null"
        return f"an evaluation reached eval.stop_at={stop_at}; to go on: {again}"
    if stop_holds(state, config):
        by, why = state["hooks"]["stopped"]["by"], state["hooks"]["stopped"]["why"]
        again = f"pgrun resume {pasted(folder.absolute())} hooks.{by}=null, or with other settings of it"
        return f"hooks.{by} stopped it ({why}); to go on: {again}"
    return ""
