"""Processes that torchrun (or another launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT) has started.

Rank 0 reads the command line and leads. The others wait to be told what the run is, write nothing, and end with it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import cache
from typing import Any

from pgrun.config.command_line import is_sweep
from pgrun.errors import UserError
from pgrun.system.signals import leave_to_leader

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
BRIEF = timedelta(seconds=20)  # for telling others, who may not be there, that there is nothing to do
PATIENCE = timedelta(hours=2)  # for the leader to begin
GRACE = 20.0  # seconds that a process lives on when its launcher is gone


def here() -> bool:
    """Tell whether this process is one of several that a launcher started.

    Clusters set these variables for purposes of their own, too: of a world of one process nobody is told, except by
    torchrun itself, and what are no numbers is not for pgrun.
    """
    try:
        own, several, _ = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    except (KeyError, ValueError):
        return False
    return bool(os.environ.get("MASTER_ADDR")) and 0 <= own < several and (several > 1 or by_torchrun())


def by_torchrun() -> bool:
    """Tell whether it was torchrun that started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def meant(argv: Sequence[str]) -> bool:
    """Tell whether a command line is for all processes together.

    torchrun's always is; where other launchers or a cluster set the variables, not a sweep, and no run that is told to
    learn in another way.
    """
    told = {arg.partition("=")[2] for arg in argv if arg.startswith("parallel=")} - {"ddp"}
    return by_torchrun() or not (is_sweep(argv) or told)


def rank() -> int:
    return int(os.environ["RANK"])


def world() -> int:
    return int(os.environ["WORLD_SIZE"])


def entry(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """The command `main`, as a launcher's processes run it; -> the exit code."""
    if here() and not meant(argv):
        for name in VARIABLES:  # so that nothing below takes them for a launcher's either
            del os.environ[name]
    if not here():
        return main(argv)
    if by_torchrun():
        end_with_launcher()
    if rank():
        return follow()
    try:
        return main(completed(argv))
    except UserError as error:
        print(f"pgrun: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        if not _begun:
            with nullcontext() if by_torchrun() else suppress(Exception):  # there may be nobody to be told
                store(PATIENCE if by_torchrun() else BRIEF).set("over", "")


def completed(argv: Sequence[str]) -> list[str]:
    """A training's command line, with what follows from being started by a launcher; UserError where that can't be."""
    argv = list(argv)
    if argv and argv[0] in ("resume", "eval", "list", "explain", "help", "-h", "--help", "--version"):
        return argv
    if is_sweep(argv):
        raise UserError("a sweep starts its own processes: run it without torchrun, with parallel=ddp workers=2 or so")
    given = dict(arg.split("=", 1) for arg in argv if "=" in arg)
    if given.get("parallel", "ddp") != "ddp":
        raise UserError(
            f"torchrun's processes learn together by parallel=ddp; for parallel={given['parallel']} leave torchrun out"
        )
    if given.get("workers", str(world())) != str(world()):
        raise UserError(f"workers={given['workers']}, but torchrun started {world()} processes: leave workers out")
    return [*argv, *(f"{k}={v}" for k, v in (("parallel", "ddp"), ("workers", world())) if k not in given)]


@cache
def store(patience: timedelta = PATIENCE) -> Any:
    """The launcher's store of keys and values, which all processes see."""
    import torch.distributed as dist

    found, _, _ = next(dist.rendezvous("env://", timeout=patience))
    return found


_begun: list[bool] = []  # whether the leader has told the others what the run is


def lead(settings: dict[str, Any]) -> Any:
    """Tell the others what the run is; -> the store."""
    _begun.append(True)
    if not by_torchrun():
        print(
            f"RANK={rank()} and WORLD_SIZE={world()} are set: waiting for the other processes to learn with "
            "(parallel=none learns without them)",
            file=sys.stderr,
            flush=True,
        )
    store().set("settings", json.dumps(settings))
    return store()


def follow() -> int:
    """Wait for the leader, and run the loop with it; -> the exit code."""
    leave_to_leader(term=False)  # until the run begins, its launcher may end this process so
    while not store().check(["settings"]):
        if store().check(["over"]):
            return 0
        time.sleep(0.05)
    from pgrun.parallel.ddp import serve

    return serve(json.loads(store().get("settings")), rank(), store())


def end_with_launcher() -> None:
    """End this process when its parent does: the leader as if it was interrupted, the others a little later."""
    parent = os.getppid()

    def guard() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if not rank():
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=guard, daemon=True).start()
