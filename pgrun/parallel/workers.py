"""Worker processes of one machine: start them, watch them, and leave none behind."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

from torch import Tensor

from pgrun.errors import Diverged, UserError
from pgrun.loop.train import Clock, train
from pgrun.system.signals import leave_to_leader, unheard_by_children

log = logging.getLogger("pgrun")


class Workers:
    """Child processes that are started, watched, and ended together with the block.

    Args:
        context: the multiprocessing context that starts them.
        patience: seconds to wait for them at the end of the block before they are killed.
        stop: an event or flag that is set to tell them to end.
    """

    def __init__(self, context: Any, patience: float, stop: Any) -> None:
        self.context, self.patience, self.stop = context, patience, stop
        self.processes: dict[int, Any] = {}
        self.dead: set[int] = set()

    def __enter__(self) -> Workers:
        return self

    def start(self, rank: int, function: Callable[..., None], *args: Any) -> None:
        """Run `function(*args)` in a new process."""
        process = self.context.Process(target=function, args=args, name=f"pgrun-worker-{rank}")
        with unheard_by_children():
            process.start()
        self.processes[rank] = process

    def watch(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Warn, once for each, of workers that died before the run's end. This is a hook of the loop."""
        for rank, process in self.processes.items():
            if rank not in self.dead and process.exitcode is not None and clock.running:
                self.dead.add(rank)
                left = len(self.processes) + 1 - len(self.dead)
                log.warning("worker %d died (%s); going on with %d", rank, how(process.exitcode), left)

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.stop.set()
        deadline = time.monotonic() + (self.patience if kind is None else 1.0)
        try:
            for process in self.processes.values():
                process.join(max(deadline - time.monotonic(), 0.0))
        finally:  # a second Ctrl-C waits no longer
            for process in self.processes.values():
                process.kill()
                process.join()


def how(code: int) -> str:
    """Describe an exit code in words."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def work(settings: dict[str, Any], rank: int, shared: Any) -> None:
    """Run a worker process from its start to its end."""
    leave_to_leader()
    end_with_parent()
    try:
        learn_along(settings, rank, shared)
    except (UserError, Diverged) as error:
        print(f"pgrun: worker {rank}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


def learn_along(settings: dict[str, Any], rank: int, shared: Any) -> None:
    """Build the same parts as the leader and run the same loop, without hooks."""
    from pgrun.run.build import build

    parts = build(settings, fresh=False, rank=rank)
    parts.team.shared = shared
    clock = parts.team.clock(settings["total_steps"])
    try:
        with parts.team.at_work(parts.algorithm, settings, clock):
            train(parts.algorithm, parts.collector, parts.memory, clock, [], update=parts.update)
    finally:
        parts.collector.env.close()


def end_with_parent() -> None:
    """End this process when its parent ends, in whatever way that happens."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def guard() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=guard, daemon=True).start()
