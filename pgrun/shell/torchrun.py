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

from pgrun.config.command_line import is_sweep
from pgrun.errors import UserError
from pgrun.loop import launched
from pgrun.loop.launched import VARIABLES, by_torchrun, here, rank, store, world
from pgrun.system.signals import leave_to_leader

GRACE = 20.0  # seconds that a process lives on when its launcher is gone


def meant(argv: Sequence[str]) -> bool:
    """Tell whether a command line is for all processes together.

    torchrun's always is; where other launchers or a cluster set the variables, not a sweep, and no run that is told to
    learn in another way.
    """
    told = {arg.partition("=")[2] for arg in argv if arg.startswith("parallel=")} - {"ddp"}
    return by_torchrun() or not (is_sweep(argv) or told)


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
        launched.over()


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
