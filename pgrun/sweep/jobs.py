"""One job of a sweep: a run in the job's folder, whose errors become its result."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pgrun.config.walk import make_absolute
from pgrun.errors import Diverged, UserError
from pgrun.run.made_here import record_run
from pgrun.run.preflight import prepare
from pgrun.sweep import folder as sweep


def never() -> bool:
    """Return False: no scheduler is about to end this process."""
    return False


def run_job(
    config: DictConfig, folder: Path, *, trial: Any = None, answers: bool = False, requeued: Callable[[], bool] = never
) -> dict[str, Any]:
    """Run one job of a sweep in its folder, from its checkpoint if there is one.

    Errors are written into the job's result instead of raised, so that they stop no other job.

    Args:
        config: the job's, composed.
        folder: the job's.
        trial: has a method `hopeless(steps, value)` that may end the job early; None: nothing ends it early.
        answers: whether to answer signals at once, as the only job of the process that the user sees.
        requeued: asked after an error: whether a scheduler ends this process to start the job again. Then the error is
            raised.

    Returns:
        The content of result.json.
    """
    from pgrun.run import checkpoint  # imported here, since it loads torch
    from pgrun.run.checkpoint_content import fitting
    from pgrun.run.checkpoint_files import Written
    from pgrun.run.directory import flat_of
    from pgrun.run.run import Run

    hydra_config = HydraConfig.get()
    begin = time.perf_counter()
    try:
        if sweep.found(folder)["status"] == "diverged":  # start over: the cause may be in the checkpoint
            Written(folder / "checkpoints", keep=0, resumed=True).discard()
            for events in folder.glob("events.out.tfevents.*"):
                events.unlink()
        latest = checkpoint.latest(folder / "checkpoints")
        state = checkpoint.load(latest) if latest.exists() else None
        if state is not None:
            over = f"with another hydra.sweep.dir or without {folder}"
            sweep.check_unchanged(flat_of(state), config, f"{folder}'s checkpoint", over)
        kept = config.copy()  # as Hydra has just written it
        make_absolute(config)
        parts = prepare(with_hydra(config, hydra_config), fresh=state is None)
        names, hopeless = chosen(hydra_config), None if trial is None else trial.hopeless
        options: dict[str, Any] = {"quiet": True, "answers": answers, "hydra": node(hydra_config)}
        with fitting(latest):
            run = Run(config, parts, folder, names=names, begin=begin, resume=state, hopeless=hopeless, **options)
        record_run(kept, node(hydra_config), folder)
        return run.execute()
    except UserError as error:
        return sweep.failed(folder, str(error))
    except Diverged as error:
        return sweep.failed(folder, f"the run diverged: {error}")
    except KeyboardInterrupt:
        return {"status": "interrupted"}
    except BaseException as error:
        if requeued():
            raise
        return sweep.failed(folder, f"{type(error).__name__}: {error}", traceback.format_exc())


def chosen(hydra_config: Any) -> dict[str, str]:
    """Return the names of the algorithm and the environment as on the command line."""
    return {key: str(hydra_config.runtime.choices[key]) for key in ("algo", "env")}


def with_hydra(config: DictConfig, hydra_config: Any) -> DictConfig:
    """Copy a job's config, with its `hydra` node put back."""
    whole = config.copy()
    OmegaConf.set_struct(whole, False)
    whole.hydra = node(hydra_config)
    return whole


def node(hydra_config: Any) -> DictConfig:
    """Return a job's `hydra` node as a config of its own."""
    return OmegaConf.masked_copy(DictConfig({"hydra": hydra_config}), ["hydra"]).hydra
