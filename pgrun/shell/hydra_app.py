"""The Hydra app behind `pgrun [overrides]`: compose, check and run, for a single run or the jobs of a sweep."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pgrun.compat.hydra import drop_namesakes
from pgrun.config.files import yaml_line
from pgrun.config.hydra_errors import instantiation, translate
from pgrun.config.paths import config_dir
from pgrun.config.quoting import explained
from pgrun.config.tuning import check_tuning
from pgrun.config.walk import make_absolute
from pgrun.errors import Diverged, NotBegun, UserError
from pgrun.run.alone import alone
from pgrun.run.claim import Claim, refuse_empty, refuse_foreign, refuse_taken
from pgrun.run.console import fail, pasted, patience, remark, shown, summary, tell
from pgrun.run.made_here import record_run
from pgrun.run.preflight import prepare
from pgrun.shell.hydra_start import run_hydra
from pgrun.shell.rewriting import rewritten
from pgrun.sweep.folder import OVER, enlist, objective, size
from pgrun.sweep.jobs import chosen, node, run_job, with_hydra
from pgrun.sweep.preflight import check_plugins, check_sweep
from pgrun.sweep.resolvers import FreeFolders, register_resolvers
from pgrun.sweep.session import SweepSession

BEGIN = time.perf_counter()


class App:
    """One command line that trains or sweeps, from its arguments to its exit code.

    Hydra calls the app with each composed config, and launchers ask it for its `session`.

    Args:
        argv: the command line.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.folders = FreeFolders()
        self.parts: Any = None  # the run's, built before Hydra makes its directory
        self.claim: Claim | None = None  # on the run's directory, until the run begins
        self.session: SweepSession | None = None
        self.codes: list[int] = []  # exit codes of the runs that have ended
        self.sweep_code: int | None = None

    def __call__(self, config: DictConfig) -> float | None:
        """Run a config that Hydra composed, and return its objective."""
        objective, code = job(self, config)
        self.codes.append(code)
        return objective

    @property
    def code(self) -> int:
        """Return the exit code."""
        return max(self.codes, default=0) if self.sweep_code is None else self.sweep_code

    def withdraw(self) -> None:
        """Leave nothing of a run or a sweep that was refused."""
        if self.claim is not None:
            self.claim.withdraw()
        if self.session is not None:
            self.session.withdraw()

    def free(self) -> None:
        """Release the directory for other processes."""
        if self.claim is not None:
            self.claim.lock.free()
        if self.session is not None:
            self.session.free()

    def unwritable(self) -> Path | None:
        """Return the directory into which nothing has been written yet; None once a run has begun there."""
        if self.session is not None:
            return self.session.folder
        return self.claim.folder if self.claim is not None and not self.claim.kept else None


# the app of the present command, for Hydra's callback, which can't be given arguments; set while Hydra runs
RUNNING: ContextVar[App] = ContextVar("RUNNING")


def main(argv: Sequence[str]) -> int:
    """Run the Hydra app on these arguments, and return the exit code."""
    app = App(argv)
    register_resolvers(app.folders)
    drop_namesakes(config_dir())
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let errors through, so that they can be told in one line
    running = RUNNING.set(app)
    try:
        trust, argv = "--trust" in argv, [word for word in argv if word != "--trust"]
        app.argv = rewritten(argv)
        sys.argv = ["pgrun", *app.argv]
        run_hydra(app, app.argv, trust=trust)
    except UserError as error:
        app.withdraw()
        return fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        app.withdraw()
        if isinstance(error, InstantiationException):
            return fail(instantiation(error))
        return fail(explained(error, app.argv) or translate(error, app.argv))
    except YAMLError as error:
        app.withdraw()
        return fail(yaml_line(error))
    except OSError as error:
        folder = app.unwritable()
        if folder is None:
            raise
        app.withdraw()  # the disk was full before the first file was written, for example
        return fail(f"{error.filename or shown(folder)} can't be written: {error.strerror or error}")
    except KeyboardInterrupt:
        if app.session is not None:
            remark("interrupted; the same line goes on with it")
        if app.claim is not None:
            app.claim.withdraw()
        return 130
    finally:
        app.free()
        RUNNING.reset(running)
    return app.code


def check_dir(config: DictConfig) -> None:
    """Raise UserError if the run's directory holds a run already or can't be made.

    A directory that `${free_dir:…}` makes is free anyway, and not checked.
    """
    written = str(OmegaConf.to_container(config.hydra.run)["dir"])  # type: ignore[index,call-overload]
    refuse_empty("hydra.run.dir", written)
    if "free_dir:" not in written:
        HydraConfig.instance().set_config(config)  # the directory's name may refer to it
        named = str(config.hydra.run.dir)
        refuse_taken(Path(named).absolute(), f"hydra.run.dir={named}", config.hydra.output_subdir)


def claim_dir(config: DictConfig, folders: FreeFolders) -> Claim:
    """Claim the run's directory for this process, and fix its name in the config.

    Resolved again, the name might come out differently.
    """
    HydraConfig.instance().set_config(config)
    with folders.claiming():
        named = str(config.hydra.run.dir)
    claim = Claim(Path(named), f"hydra.run.dir={named}", config.hydra.output_subdir, folders.made)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.run.dir = named
    return claim


@contextmanager
def heard(argv: Sequence[str]) -> Iterator[None]:
    """Turn exceptions in a callback into SystemExit, after printing the error.

    Hydra swallows any other exception of a callback.
    """
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
    """A Hydra callback that composes, checks and builds a run before Hydra makes its directory.

    So a refused run leaves nothing behind.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check and build the run."""
        with heard(config.hydra.overrides.task):
            check_dir(config)
            check_tuning(config)
            app = RUNNING.get()
            app.parts = prepare(config)
            app.claim = claim_dir(config, app.folders)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check every swept value, with the other keys at their first, before the sweep's directory is made."""
        with heard(config.hydra.overrides.task):
            check_plugins(config)
            check_tuning(config)
            refuse_empty("hydra.sweep.dir", str(config.hydra.sweep.dir))
            with patience(size(config), "checking"):
                check_sweep(config)
            refuse_foreign(config.hydra.launcher._target_, Path(config.hydra.sweep.dir))
            RUNNING.get().session = SweepSession(Path(config.hydra.sweep.dir)).begin(sys.argv[1:])

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table of the jobs, and set the exit code."""
        with heard(config.hydra.overrides.task):
            app, minimize = RUNNING.get(), config.hydra.sweeper.get("direction") == "minimize"
            if app.session is not None:
                app.sweep_code = app.session.conclude(minimize=minimize, records=config.hydra.output_subdir)


def job(app: App, config: DictConfig) -> tuple[float | None, int]:
    """Run a config in the directory that Hydra made.

    Returns:
        The objective, if there is one, and the exit code.
    """
    hydra_config = HydraConfig.get()
    kept = config.copy()  # as Hydra has just written it
    make_absolute(config)
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.MULTIRUN:  # started by a launcher that is not pgrun's
        enlist(Path(hydra_config.sweep.dir), [str(hydra_config.sweep.subdir)])
        result = run_job(config, folder, answers=app.session is not None and app.session.here())
        tell(folder, result)
        return objective(result), 0 if result["status"] in OVER else 1
    try:
        parts, app.parts = app.parts or prepare(with_hydra(config, hydra_config)), None
        from pgrun.run.run import Run

        with nullcontext() if app.claim is not None else alone(folder):
            run = Run(config, parts, folder, names=chosen(hydra_config), begin=BEGIN, hydra=node(hydra_config))
            if app.claim is not None:
                app.claim.keep()
            record_run(kept, node(hydra_config), folder)
            result = run.execute()
    except NotBegun as error:
        if app.claim is not None:
            app.claim.take_back()
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
