"""One job of a sweep: a run in the job's folder, whose errors are its result."""

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
from pgrun.run.preflight import prepare
from pgrun.sweep import folder as sweep


def never() -> bool:
    """No scheduler is at this process."""
    return False


def run_job(
    config: DictConfig, folder: Path, *, trial: Any = None, answers: bool = False, requeued: Callable[[], bool] = never
) -> dict[str, Any]:
    """Run one job of a sweep in its folder, from its checkpoint where there is one; -> what result.json holds.

    It raises nothing, so that it stops no other: what goes wrong is in the result.

    Args:
        config: the job's, composed.
        folder: the job's.
        trial: has a method `hopeless(steps, value)`, which may end it early; None: nothing may.
        answers: whether it answers signals at once, as the only job of the process that the user sees.
        requeued: asked at an error: whether a scheduler ends this process, to start the job again.
    """
    from pgrun.run import checkpoint  # here, as it loads torch
    from pgrun.run.checkpoint_files import Written
    from pgrun.run.directory import flat
    from pgrun.run.run import Run

    hydra_config = HydraConfig.get()
    begin = time.perf_counter()
    try:
        if sweep.found(folder)["status"] == "diverged":  # what its checkpoint holds may be what went wrong
            Written(folder / "checkpoints", keep=0, resumed=True).discard()
            for events in folder.glob("events.out.tfevents.*"):
                events.unlink()
        latest = checkpoint.latest(folder / "checkpoints")
        state = checkpoint.load(latest) if latest.exists() else None
        if state is not None:
            over = f"with another hydra.sweep.dir or without {folder}"
            sweep.check_unchanged(flat(state["config"]), config, f"{folder}'s checkpoint", over)
        make_absolute(config)
        parts = prepare(with_hydra(config, hydra_config), fresh=state is None)
        names, hopeless = chosen(hydra_config), None if trial is None else trial.hopeless
        how: dict[str, Any] = {"quiet": True, "answers": answers, "hydra": node(hydra_config)}
        run = Run(config, parts, folder, names=names, begin=begin, resume=state, hopeless=hopeless, **how)
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
    """The algorithm and the environment by their names on the command line."""
    return {key: str(hydra_config.runtime.choices[key]) for key in ("algo", "env")}


def with_hydra(config: DictConfig, hydra_config: Any) -> DictConfig:
    """A job's config with its `hydra` node back."""
    whole = config.copy()
    OmegaConf.set_struct(whole, False)
    whole.hydra = node(hydra_config)
    return whole


def node(hydra_config: Any) -> DictConfig:
    """Return a job's `hydra` node as a config of its own."""
    return OmegaConf.masked_copy(DictConfig({"hydra": hydra_config}), ["hydra"]).hydra
