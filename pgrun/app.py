"""The Hydra app behind `pgrun [overrides]`: compose, check, run; alone or as the jobs of a sweep."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pgrun.check import check_plugins, check_sweep, prepare
from pgrun.errors import Diverged, UserError
from pgrun.lock import Lock, alone
from pgrun.paths import config_dir
from pgrun.resolvers import register_resolvers
from pgrun.tell import fail, shown, summary, tell
from pgrun.translate import instantiation, translate

BEGIN = time.perf_counter()
_sweep_codes: list[int] = []
_built: list[Any] = []  # the parts of the run that was checked before Hydra made its directory
_locks: list[Lock] = []  # on the sweep's directory
over_before: set[str] = set()  # a sweep's jobs that were over before this session
replaced: set[str] = set()  # those that failed and were done again in another folder


def main(argv: Sequence[str]) -> int:
    """Run the Hydra app on these arguments; -> the exit code."""
    register_resolvers()
    drop_namesakes()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let errors through, so that they can be told in one line
    argv = [any_key(whole_numbers(arg)) for arg in argv]
    outcome: list[int] = []

    def task(config: DictConfig) -> float | None:
        objective, code = job(config)
        outcome.append(code)
        return objective

    app: Callable[[], Any] = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(task)
    try:
        argv = prepare_sweep(argv)
        sys.argv = ["pgrun", *argv]
        app()
    except UserError as error:
        withdraw_sweep()
        return fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        withdraw_sweep()
        return fail(instantiation(error) if isinstance(error, InstantiationException) else translate(error, argv))
    except KeyboardInterrupt:
        if _locks:
            print("interrupted; the same line goes on with it", file=sys.stderr)
        return 130
    finally:
        for lock in _locks:
            lock.free()
        _locks.clear()
    return max(_sweep_codes or outcome, default=0)


def withdraw_sweep() -> None:
    """Leave nothing of a sweep that was refused."""
    from pgrun.sweep import withdraw

    for lock in _locks:
        withdraw(lock)


def prepare_sweep(argv: list[str]) -> list[str]:
    """Before Hydra reads a sweep's command line: what it can't be, and the order in which it was first given."""
    from pgrun.sweep import in_first_order, is_sweep

    if not is_sweep(argv):
        return argv
    for arg in argv:
        if arg.startswith("+sweep=") and "," in arg and "[" not in arg:
            raise UserError(f"{arg}: several files of the group sweep are given as '+sweep=[{arg[7:]}]'")
    signal.signal(signal.SIGTERM, interrupt)
    return in_first_order(argv)


def interrupt(number: int, frame: Any) -> None:
    """SIGTERM ends a sweep as Ctrl-C does."""
    raise KeyboardInterrupt


def drop_namesakes() -> None:
    """Where Hydra's own plugins for joblib, Ray and Optuna are installed too, pgrun's have their names."""
    Plugins.instance()  # imports the plugins, which store their configs
    for path in (config_dir() / "hydra").rglob("*.yaml"):
        *folders, name = path.relative_to(config_dir()).parts
        group = ConfigStore.instance().repo
        for folder in folders:
            group = group.get(folder, {})
        group.pop(name, None)


def whole_numbers(argument: str) -> str:
    """`total_steps=1e6` as `total_steps=1000000`: a number that is whole is written as one, which fits floats too."""

    def rewrite(match: re.Match[str]) -> str:
        value = float(match[0])
        return str(int(value)) if value.is_integer() and value < 1e18 else match[0]

    return re.sub(r"(?<=[=,])\d+(?:\.\d*)?[eE]\+?\d+(?=,|$)", rewrite, argument)


def any_key(argument: str) -> str:
    """`eval.env.kwargs.size=3` as `++eval.env.kwargs.size=3`: there may stand whatever `env` has."""
    return f"++{argument}" if argument.startswith("eval.env.") else argument


def check_dir(config: DictConfig) -> None:
    """Refuse a directory, where one is named on the command line, that holds a run."""
    named = str(OmegaConf.to_container(config.hydra.run)["dir"])  # type: ignore[index,call-overload]
    if "${" not in named and ((Path(named) / ".hydra").exists() or (Path(named) / "result.json").exists()):
        more = f"go on with it by pgrun resume {named}, or choose another"
        raise UserError(f"hydra.run.dir={named} holds a run already: {more}")


@contextmanager
def heard(argv: Sequence[str]) -> Iterator[None]:
    """What goes wrong in a callback ends this process by SystemExit: Hydra swallows any other exception."""
    try:
        yield
    except UserError as error:
        raise SystemExit(fail(str(error))) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise SystemExit(fail(translate(error, argv))) from error
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None


class CheckFirst(Callback):
    """Composes, checks and builds before Hydra makes the run's directory, so that a refused run leaves nothing."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check and build the run."""
        with heard(config.hydra.overrides.task):
            check_dir(config)
            _built.append(prepare(config))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check every value that is swept, the others at their first, before the sweep's directory is made."""
        from pgrun import sweep

        with heard(config.hydra.overrides.task):
            check_plugins(config)
            check_sweep(config)
            _locks.append(sweep.begin(Path(config.hydra.sweep.dir), sys.argv[1:]))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """A table of the jobs, and whether one failed."""
        from pgrun import sweep

        with heard(config.hydra.overrides.task):
            folder = Path(config.hydra.sweep.dir)
            minimize = config.hydra.sweeper.get("direction") == "minimize"
            _sweep_codes.append(sweep.table(folder, over_before, replaced, minimize=minimize))
            print(f"sweep directory  {shown(folder.resolve())}", flush=True)


def job(config: DictConfig) -> tuple[float | None, int]:
    """One run in the directory that Hydra made; -> its objective and exit code."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.MULTIRUN:  # of a launcher that is not pgrun's
        from pgrun.sweep import OVER, objective

        result = sweep_job(config, folder)
        tell(folder, result)
        return objective(result), 0 if result["status"] in OVER else 1
    try:
        parts = _built.pop() if _built else prepare(with_hydra(config, hydra_config))
        from pgrun.run import Run

        with alone(folder):
            result = Run(config, parts, folder, names=chosen(hydra_config), begin=BEGIN).execute()
    except UserError as error:
        return None, fail(str(error), error.exit_code)
    except Diverged as error:
        return None, fail(f"the run diverged: {error}", Diverged.exit_code)
    if result["status"] == "interrupted":
        print(f"interrupted; go on with: pgrun resume {shown(folder)}", file=sys.stderr)
        return None, 130
    summary(folder, result)
    return None, 0


def sweep_job(config: DictConfig, folder: Path, trial: Any = None) -> dict[str, Any]:
    """One job of a sweep in its folder, from its checkpoint where there is one; -> what result.json holds.

    It raises nothing, so that it stops no other: what goes wrong is in the result.
    """
    from pgrun import checkpoint, sweep
    from pgrun.run import Run

    hydra_config = HydraConfig.get()
    begin = time.perf_counter()
    try:
        if sweep.found(folder)["status"] == "diverged":  # what its checkpoint holds may be what went wrong
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            for events in folder.glob("events.out.tfevents.*"):
                events.unlink()
        latest = checkpoint.latest(folder / "checkpoints")
        state = checkpoint.load(latest) if latest.exists() else None
        parts = prepare(with_hydra(config, hydra_config), fresh=state is None)
        names, hopeless = chosen(hydra_config), None if trial is None else trial.hopeless
        run = Run(config, parts, folder, names=names, begin=begin, quiet=True, resume=state, hopeless=hopeless)
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
    whole.hydra = OmegaConf.masked_copy(DictConfig({"hydra": hydra_config}), ["hydra"]).hydra
    return whole


def current_lock() -> Lock | None:
    """The lock on the sweep's directory that this process holds."""
    return _locks[-1] if _locks else None
