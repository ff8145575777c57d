"""Runs whose processes a launcher has started: torchrun, or another that sets the same environment variables.

These are RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Rank 0 reads the command line and leads. The others wait to be
told the run's settings, write nothing, and end with it.
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
from pgrun.trust.finder import allow

GRACE = 20.0  # seconds that a process lives on when its launcher is gone


def meant(argv: Sequence[str]) -> bool:
    """Tell whether all processes of a launcher are to run one training together.

    torchrun's always is. Other launchers and clusters set the variables too; there it is not if it is a sweep's, or if
    it chooses another `parallel` than ddp.
    """
    told = {arg.partition("=")[2] for arg in argv if arg.startswith("parallel=")} - {"ddp"}
    return by_torchrun() or not (is_sweep(argv) or told)


def entry(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Run a command as one of a launcher's processes, or alone if there is no launcher.

    Args:
        main: the command; it takes the command line and returns the exit code.
        argv: the command line.

    Returns:
        The exit code.
    """
    if here() and not meant(argv):
        for name in VARIABLES:  # so that no other code takes this process for a launcher's
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
    """Add to a training's command line what follows from its launcher: parallel=ddp and the number of workers.

    Raises:
        UserError: the command line contradicts that.
    """
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
    """Wait for the leader, run the loop with it, and return the exit code."""
    leave_to_leader(term=False)  # until the run begins, the launcher may end this process by SIGTERM
    while not store().check(["settings"]):
        if store().check(["over"]):
            return 0
        time.sleep(0.05)
    from pgrun.parallel.ddp import serve

    folders, names = json.loads(store().get("code"))
    allow(names, folders)
    return serve(json.loads(store().get("settings")), rank(), store())


def end_with_launcher() -> None:
    """End this process when its parent ends: the leader as if interrupted, the others a little later."""
    parent = os.getppid()

    def guard() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if not rank():
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=guard, daemon=True).start()
