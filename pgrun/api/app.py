"""The Hydra app behind `pgrun [overrides]`: compose, check and run, for a single run or the jobs of a sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pgrun.api.composing import told
from pgrun.api.hydra_start import run_hydra, run_once
from pgrun.api.rewriting import rewritten
from pgrun.compat.hydra import drop_namesakes
from pgrun.config.paths import config_dir
from pgrun.config.tuning import check_tuning
from pgrun.config.walk import make_absolute
from pgrun.errors import Diverged, NotBegun, UserError
from pgrun.run.alone import alone
from pgrun.run.claim import Claim, refuse_empty, refuse_foreign, refuse_taken
from pgrun.run.console import patience, shown, tell
from pgrun.run.logs import logged
from pgrun.run.made_here import record_run
from pgrun.run.preflight import prepare, report_faults
from pgrun.sweep.folder import OVER, enlist, objective, size
from pgrun.sweep.jobs import chosen, node, run_job, with_hydra
from pgrun.sweep.preflight import check_plugins, check_sweep
from pgrun.sweep.resolvers import FreeFolders, register_resolvers
from pgrun.sweep.session import SweepSession


class Refusal(BaseException):
    """An error in a callback of Hydra's, which swallows any mere Exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Ended:
    """The end of a run."""

    folder: Path
    result: dict[str, Any] | None = None  # the content of result.json; None if an error ended it
    error: UserError | Diverged | None = None


class App:
    """One command line that trains or sweeps.

    Hydra calls the app with each composed config, and launchers ask it for its `session`.

    Args:
        argv: the command line.
        begin: `time.perf_counter()` when the process, or the call, began.
        own_log: whether the app keeps the run's log; Hydra's configuration of it would replace the caller's.
        quiet: print nothing and show no progress.
    """

    def __init__(self, argv: Sequence[str], *, begin: float, own_log: bool = False, quiet: bool = False) -> None:
        self.trust, self.argv = "--trust" in argv, [word for word in argv if word != "--trust"]
        self.begin, self.own_log, self.quiet = begin, own_log, quiet
        self.folders = FreeFolders()
        self.parts: Any = None  # the run's, built before Hydra makes its directory
        self.claim: Claim | None = None  # on the run's directory, until the run begins
        self.session: SweepSession | None = None
        self.codes: list[int] = []  # exit codes of the jobs that another launcher than pgrun's has run
        self.sweep_code: int | None = None
        self.ended: Ended | None = None  # the one run's end

    def __call__(self, config: DictConfig) -> float | None:
        """Run a config that Hydra composed, and return its objective."""
        hydra_config = HydraConfig.get()
        kept = config.copy()  # as Hydra has just written it
        make_absolute(config)
        folder = Path(hydra_config.runtime.output_dir)
        if hydra_config.mode == RunMode.MULTIRUN:
            return foreign_job(self, config, folder)
        self.ended = self.one_run(config, folder, kept)
        return None

    @property
    def code(self) -> int:
        """Return a sweep's exit code."""
        return max(self.codes, default=0) if self.sweep_code is None else self.sweep_code

    def run(self) -> Ended | None:
        """Train or sweep.

        Returns:
            The run's end; None where there was a sweep, or where Hydra showed something.

        Raises:
            UserError: nothing was begun, as the line, a file or a setting is wrong.
            KeyboardInterrupt: it was interrupted before the run began, or in a sweep.
        """
        register_resolvers(self.folders)
        drop_namesakes(config_dir())
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let errors through, so that they can be told in one line
        running = RUNNING.set(self)
        try:
            self.argv = rewritten(self.argv)
            sys.argv = ["pgrun", *self.argv]  # resolvers read it, and the processes of launchers
            (run_once if self.own_log else run_hydra)(self, self.argv, trust=self.trust)
        except Refusal as refusal:
            raise refusal.error from refusal.error.__cause__
        except (UserError, HydraException, OmegaConfBaseException, YAMLError) as error:
            self.withdraw()
            if (said := told(error, self.argv)) is error:
                raise
            raise said from error
        except OSError as error:
            folder = self.unwritable()
            if folder is None:
                raise
            self.withdraw()  # the disk was full before the first file was written, for example
            raise UserError(f"{error.filename or shown(folder)} can't be written: {error.strerror or error}") from error
        except KeyboardInterrupt:
            if self.claim is not None:
                self.claim.withdraw()
            raise
        finally:
            self.free()
            RUNNING.reset(running)
        return self.ended

    def one_run(self, config: DictConfig, folder: Path, kept: DictConfig) -> Ended:
        """Run a config in the directory that Hydra made, where it is kept as it was composed."""
        hydra_config = HydraConfig.get()
        try:
            parts, self.parts = self.parts or prepare(with_hydra(config, hydra_config)), None
            from pgrun.run.run import Run

            with (
                nullcontext() if self.claim is not None else alone(folder),
                logged(folder, quiet=self.quiet) if self.own_log else nullcontext(),
            ):
                known: dict[str, Any] = {"names": chosen(hydra_config), "hydra": node(hydra_config)}
                known["trusted"] = self.trust
                run = Run(config, parts, folder, begin=self.begin, quiet=self.quiet, **known)
                if self.claim is not None:
                    self.claim.keep()
                record_run(kept, node(hydra_config), folder, only_there=self.trust)
                return Ended(folder, run.execute())
        except NotBegun as error:
            if self.claim is not None:
                self.claim.take_back()
            return Ended(folder, error=error)
        except (UserError, Diverged) as error:
            return Ended(folder, error=error)

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


def foreign_job(app: App, config: DictConfig, folder: Path) -> float | None:
    """Run a sweep's job that was started by a launcher that is not pgrun's, and return its objective."""
    hydra_config = HydraConfig.get()
    enlist(Path(hydra_config.sweep.dir), [str(hydra_config.sweep.subdir)])
    result = run_job(config, folder, answers=app.session is not None and app.session.here())
    tell(folder, result)
    app.codes.append(0 if result["status"] in OVER else 1)
    return objective(result)


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
def heard() -> Iterator[None]:
    """Let exceptions in a callback through Hydra, as a `Refusal`."""
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        raise Refusal(told(error, RUNNING.get().argv)) from error
    except Exception as error:
        raise Refusal(error) from error


class CheckFirst(Callback):
    """A Hydra callback that composes, checks and builds a run before Hydra makes its directory.

    So a refused run leaves nothing behind.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check and build the run."""
        with heard():
            check_dir(config)
            check_tuning(config)
            app = RUNNING.get()
            app.parts = prepare(config)
            report_faults()
            app.claim = claim_dir(config, app.folders)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check every swept value, with the other keys at their first, before the sweep's directory is made."""
        with heard():
            check_plugins(config)
            check_tuning(config)
            refuse_empty("hydra.sweep.dir", str(config.hydra.sweep.dir))
            with patience(size(config), "checking"):
                check_sweep(config)
            report_faults()
            refuse_foreign(config.hydra.launcher._target_, Path(config.hydra.sweep.dir))
            RUNNING.get().session = SweepSession(Path(config.hydra.sweep.dir)).begin(sys.argv[1:])

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table of the jobs, and set the exit code."""
        with heard():
            app, minimize = RUNNING.get(), config.hydra.sweeper.get("direction") == "minimize"
            if app.session is not None:
                app.sweep_code = app.session.conclude(minimize=minimize, records=config.hydra.output_subdir)
