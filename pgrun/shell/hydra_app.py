"""The Hydra app behind `pgrun [overrides]`: compose, check, run; alone or as the jobs of a sweep."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pgrun.config.files import yaml_line
from pgrun.config.hydra_errors import instantiation, translate
from pgrun.config.quoting import explained
from pgrun.config.tuning import check_tuning
from pgrun.config.walk import make_absolute
from pgrun.errors import Diverged, NotBegun, UserError
from pgrun.run.claim import Claim, refuse_empty, refuse_foreign, refuse_taken
from pgrun.run.console import fail, pasted, patience, remark, say, shown, summary, tell
from pgrun.run.preflight import check_plugins, check_sweep, prepare
from pgrun.shell.hydra_start import any_key, drop_namesakes, run_hydra, whole_numbers
from pgrun.shell.shown_config import first_job
from pgrun.sweep.resolvers import claiming, register_resolvers
from pgrun.system.lock import Lock, alone

BEGIN = time.perf_counter()
_sweep_codes: list[int] = []
_built: list[Any] = []  # the parts of the run that was checked before Hydra made its directory
_claims: list[Claim] = []  # of the run's directory, until the run begins
_locks: list[Lock] = []  # on the sweep's directory
over_before: set[str] = set()  # a sweep's jobs that were over before this session
replaced: set[str] = set()  # those that failed and were done again in another folder


def main(argv: Sequence[str]) -> int:
    """Run the Hydra app on these arguments; -> the exit code."""
    for left in (_sweep_codes, _built, _claims, _locks, over_before, replaced):
        left.clear()  # of a command that this process ran before
    register_resolvers()
    drop_namesakes()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let errors through, so that they can be told in one line
    argv = first_job([any_key(whole_numbers(arg)) for arg in argv])
    outcome: list[int] = []

    def task(config: DictConfig) -> float | None:
        objective, code = job(config)
        outcome.append(code)
        return objective

    try:
        argv = prepare_sweep(argv)
        sys.argv = ["pgrun", *argv]
        run_hydra(task, argv)
    except UserError as error:
        withdraw()
        return fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        withdraw()
        if isinstance(error, InstantiationException):
            return fail(instantiation(error))
        return fail(explained(error, argv) or translate(error, argv))
    except YAMLError as error:
        withdraw()
        return fail(yaml_line(error))
    except OSError as error:
        if not _locks and all(claim.kept for claim in _claims):
            raise
        withdraw()  # a disk that was full before the first file was whole, or the like
        folder = [lock.path.parent for lock in (*_locks, *(claim.lock for claim in _claims))][-1]
        return fail(f"{error.filename or shown(folder)} can't be written: {error.strerror or error}")
    except KeyboardInterrupt:
        if _locks:
            remark("interrupted; the same line goes on with it")
        for claim in _claims:
            claim.withdraw()
        return 130
    finally:
        for claim in _claims:
            claim.lock.free()
        for lock in _locks:
            lock.free()
        _claims.clear()
        _locks.clear()
    return max(_sweep_codes or outcome, default=0)


def withdraw() -> None:
    """Leave nothing of a run or a sweep that was refused."""
    from pgrun.sweep.folder import withdraw

    for claim in _claims:
        claim.withdraw()
    for lock in _locks:
        withdraw(lock)


def prepare_sweep(argv: list[str]) -> list[str]:
    """Before Hydra reads a sweep's command line: what it can't be, and the order in which it was first given."""
    from pgrun.config.command_line import is_sweep
    from pgrun.sweep.folder import in_first_order

    if not is_sweep(argv):
        return argv
    for arg in argv:
        if arg.startswith("+sweep=") and "," in arg and "[" not in arg:
            raise UserError(f"{arg}: several files of the group sweep are given as '+sweep=[{arg[7:]}]'")
    return in_first_order(argv)


def check_dir(config: DictConfig) -> None:
    """Refuse a directory that holds a run or can't be, unless one is made (`${free_dir:…}`) that is free anyway."""
    written = str(OmegaConf.to_container(config.hydra.run)["dir"])  # type: ignore[index,call-overload]
    refuse_empty("hydra.run.dir", written)
    if "free_dir:" not in written:
        HydraConfig.instance().set_config(config)  # which the directory's name may refer to
        named = str(config.hydra.run.dir)
        refuse_taken(Path(named).absolute(), f"hydra.run.dir={named}", config.hydra.output_subdir)


def claim_dir(config: DictConfig) -> None:
    """Make the run's directory this process's, and fix its name: asked again, a resolver may say another."""
    HydraConfig.instance().set_config(config)
    with claiming():
        named = str(config.hydra.run.dir)
    _claims.append(Claim(Path(named), f"hydra.run.dir={named}", config.hydra.output_subdir))
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.run.dir = named


@contextmanager
def heard(argv: Sequence[str]) -> Iterator[None]:
    """What goes wrong in a callback ends this process by SystemExit: Hydra swallows any other exception."""
    try:
        yield
    except UserError as error:
        raise SystemExit(fail(str(error))) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise SystemExit(fail(explained(error, argv) or translate(error, argv))) from error
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None


class CheckFirst(Callback):
    """Composes, checks and builds before Hydra makes the run's directory, so that a refused run leaves nothing."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check and build the run."""
        with heard(config.hydra.overrides.task):
            check_dir(config)
            check_tuning(config)
            _built.append(prepare(config))
            claim_dir(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check every value that is swept, the others at their first, before the sweep's directory is made."""
        from pgrun.sweep import folder as sweep

        with heard(config.hydra.overrides.task):
            check_plugins(config)
            check_tuning(config)
            refuse_empty("hydra.sweep.dir", str(config.hydra.sweep.dir))
            with patience(sweep.size(config), "checking"):
                check_sweep(config)
            refuse_foreign(config.hydra.launcher._target_, Path(config.hydra.sweep.dir))
            _locks.append(sweep.begin(Path(config.hydra.sweep.dir), sys.argv[1:]))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """A table of the jobs, and whether one failed."""
        from pgrun.sweep.table import table

        with heard(config.hydra.overrides.task):
            folder = Path(config.hydra.sweep.dir)
            minimize, records = config.hydra.sweeper.get("direction") == "minimize", config.hydra.output_subdir
            _sweep_codes.append(table(folder, over_before, replaced, minimize=minimize, records=records))
            say(f"sweep directory  {shown(folder.resolve())}")


def job(config: DictConfig) -> tuple[float | None, int]:
    """One run in the directory that Hydra made; -> its objective and exit code."""
    hydra_config = HydraConfig.get()
    make_absolute(config)
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.MULTIRUN:  # of a launcher that is not pgrun's
        from pgrun.sweep.folder import OVER, enlist, objective

        enlist(Path(hydra_config.sweep.dir), [str(hydra_config.sweep.subdir)])
        result = sweep_job(config, folder)
        tell(folder, result)
        return objective(result), 0 if result["status"] in OVER else 1
    try:
        parts = _built.pop() if _built else prepare(with_hydra(config, hydra_config))
        from pgrun.run.run import Run

        with nullcontext() if _claims else alone(folder):
            run = Run(config, parts, folder, names=chosen(hydra_config), begin=BEGIN, hydra=node(hydra_config))
            for claim in _claims:
                claim.keep()
            result = run.execute()
    except NotBegun as error:
        for claim in _claims:
            claim.take_back()
        return None, fail(str(error))
    except UserError as error:
        return None, fail(str(error), error.exit_code)
    except Diverged as error:
        return None, fail(f"the run diverged: {error}", Diverged.exit_code)
    if result["status"] == "interrupted":
        remark(f"interrupted; go on with: pgrun resume {pasted(folder)}")
        return None, 130
    summary(folder, result)
    return None, 0


def sweep_job(config: DictConfig, folder: Path, trial: Any = None) -> dict[str, Any]:
    """One job of a sweep in its folder, from its checkpoint where there is one; -> what result.json holds.

    It raises nothing, so that it stops no other: what goes wrong is in the result.
    """
    from pgrun.run import checkpoint
    from pgrun.run.checkpoint_files import Written
    from pgrun.run.directory import flat
    from pgrun.run.run import Run
    from pgrun.sweep import folder as sweep

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
        how: dict[str, Any] = {"quiet": True, "answers": current_lock() is not None, "hydra": node(hydra_config)}
        run = Run(config, parts, folder, names=names, begin=begin, resume=state, hopeless=hopeless, **how)
        return run.execute()
    except UserError as error:
        return sweep.failed(folder, str(error))
    except Diverged as error:
        return sweep.failed(folder, f"the run diverged: {error}")
    except KeyboardInterrupt:
        return {"status": "interrupted"}
    except BaseException as error:
        if sweep.requeued.is_set():
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


def current_lock() -> Lock | None:
    """The lock on the sweep's directory that this process holds."""
    return _locks[-1] if _locks else None
