"""A job, and how it runs in a process of its own, on this or another machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import run_job as run_by_hydra
from hydra.core.utils import setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig

from pgrun.compat.hydra import drop_namesakes
from pgrun.config.paths import config_dir
from pgrun.errors import UserError
from pgrun.sweep.folder import OVER, failed, found
from pgrun.sweep.jobs import never, run_job
from pgrun.sweep.resolvers import register_resolvers
from pgrun.system.lock import Lock, held
from pgrun.trust.finder import allow, state

GRACE = 20.0  # seconds, at most, that a job gets to write its checkpoint when it has to end
_watched: set[str] = set()
_at_work = threading.Event()


@dataclass
class Job:
    """One job of a sweep."""

    number: int
    overrides: list[str]
    config: DictConfig  # with its `hydra` node
    folder: Path
    note: str = ""  # how an earlier session's job goes on, in words
    trial: Any = None  # has a method `hopeless(steps, value)` that may end the job early


@dataclass
class SweepProcess:
    """The facts about the process that runs the sweep that its worker processes need."""

    lock: Path
    token: str
    host: str
    pid: int
    cwd: str
    paths: list[str]
    code: tuple[list[str], list[str]]  # where the user's modules are found, and which ones
    hydra: HydraContext
    singletons: Any

    @classmethod
    def here(cls, lock: Path, token: str, hydra: HydraContext) -> SweepProcess:
        """Describe this process."""
        return cls(
            lock,
            token,
            socket.gethostname(),
            os.getpid(),
            str(Path.cwd()),
            list(sys.path),
            state(),
            hydra,
            Singleton.get_state(),
        )

    def enter(self) -> None:
        """Give a worker process the folder, search path and singletons of the sweep's process.

        From then on the worker ends when the sweep's process does.
        """
        if self.pid == os.getpid() and self.host == socket.gethostname():
            return
        os.chdir(self.cwd)
        sys.path.extend(path for path in self.paths if path not in sys.path)
        folders, names = self.code
        allow(names, folders)
        register_resolvers()
        setup_globals()
        Singleton.set_state(self.singletons)
        drop_namesakes(config_dir())
        self.watch()

    def watch(self) -> None:
        """End this process when the sweep's process is gone, in whatever way it ended.

        On another machine this works only if the shared file system shows locks there.
        """
        if not self.token or self.token in _watched:
            return
        if self.host != socket.gethostname() and not held(self.lock, self.token):
            return
        _watched.add(self.token)
        threading.Thread(target=end_with, args=(self.lock, self.token), daemon=True).start()


def end_with(lock: Path, token: str) -> None:
    """Wait until a lock is gone, then end this process and its children.

    Before that, the job gets a few seconds to write its checkpoint.
    """
    while held(lock, token):
        time.sleep(0.5)
    deadline = time.monotonic() + GRACE
    if _at_work.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
    while _at_work.is_set() and time.monotonic() < deadline:
        time.sleep(0.1)
    for child in multiprocessing.active_children():
        child.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def run_in_worker(job: Job, home: SweepProcess, requeued: Callable[[], bool] = never) -> dict[str, Any]:
    """Run a job in a worker process, and return the content of its result.json."""
    home.enter()
    _at_work.set()
    try:
        return run_in_folder(job, home.hydra, requeued=requeued)
    except KeyboardInterrupt:
        return {"status": "interrupted"}
    finally:
        _at_work.clear()


def run_in_folder(
    job: Job, hydra: HydraContext, *, answers: bool = False, requeued: Callable[[], bool] = never
) -> dict[str, Any]:
    """Run a job in this process, through Hydra, which keeps the job's config and log in its folder.

    Args:
        job: the job.
        hydra: Hydra's context.
        answers: whether to answer signals at once, as the only job of the process that the user sees.
        requeued: asked after an error: whether a scheduler ends this process to start the job again.

    Returns:
        The content of result.json.
    """
    lock = Lock(job.folder / ".lock")
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        lock.wait()  # a worker of a killed sweep, or of another queue, may still run this job
        result = found(job.folder)
        if result["status"] in OVER:
            return result
        HydraConfig.instance().set_config(job.config)
        kept: list[dict[str, Any]] = []
        run_by_hydra(
            hydra_context=hydra,
            task_function=lambda config: kept.append(
                run_job(config, job.folder, trial=job.trial, answers=answers, requeued=requeued)
            ),
            config=job.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        return kept[0]
    except UserError as error:
        return failed(job.folder, str(error))
    except OSError as error:
        where = error.filename or job.folder
        return failed(job.folder, f"{where} can't be written: {error.strerror or error}")
    except Exception as error:  # from what Hydra does around the job
        return failed(job.folder, f"{type(error).__name__}: {error}", traceback.format_exc())
    finally:
        lock.free()


def own_group() -> None:
    """Leave the terminal's process group: Ctrl-C is for the sweep's process, which asks its jobs to end."""
    with contextlib.suppress(OSError):
        os.setpgrp()
