"""Copies of an environment in a process each."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import signal
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import gymnasium as gym
from gymnasium.vector.utils import CloudpickleWrapper

from pgrun.compat.processes import kill_at_exit
from pgrun.envs.infos import Over
from pgrun.envs.one_copy import Copy, Make
from pgrun.envs.vector import Copies
from pgrun.errors import EnvFailed, failing, told
from pgrun.system.signals import leave_to_leader

PATIENCE = 5.0  # seconds that a worker process has for closing its environment


class Processes(Copies):
    """Copies in a process each. A process that dies or breaks is reported, and none outlives this object."""

    def begin(self, makers: Sequence[Make]) -> list[tuple[gym.Space, gym.Space]]:
        """Start the processes and make the copies; see `Copies.begin`."""
        context = multiprocessing.get_context()
        self.pipes: list[Any] = []
        self.workers: list[Any] = []
        for i, make in enumerate(makers):
            our_end, worker_end = context.Pipe()
            work = (i, CloudpickleWrapper(make), self.same_step, self.reads, worker_end, our_end)
            worker = context.Process(target=serve, args=work, daemon=True, name=f"pgrun-environment-{i}")  # type: ignore[attr-defined]
            self.pipes.append(our_end)
            self.workers.append(worker)
            worker.start()
            kill_at_exit(worker)
            worker_end.close()
        return [self.answer(i, "making it") for i in range(len(makers))]

    def all(self, methods: Sequence[str], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of each copy; see `Copies.all`."""
        for i, (pipe, method, given) in enumerate(zip(self.pipes, methods, arguments, strict=True)):
            try:
                pipe.send((method, given))
            except OSError:
                self.died(i, method)
        return [self.answer(i, method) for i, method in enumerate(methods)]

    def answer(self, i: int, where: str) -> Any:
        """Wait for a copy's answer and return it.

        Raises:
            EnvFailed: it failed or died.
            KeyboardInterrupt: it was interrupted.
        """
        try:
            kind, content = self.pipes[i].recv()
        except (EOFError, OSError):
            self.died(i, where)
        if kind == "answer":
            return content
        if kind == "interrupted":
            raise KeyboardInterrupt
        raise content

    def died(self, i: int, where: str) -> NoReturn:
        """Raise EnvFailed for a copy whose process is gone."""
        self.workers[i].join(PATIENCE)
        code = self.workers[i].exitcode
        how = "no exit code" if code is None else f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        name = {"anew": "reset", "call": "a call"}.get(where, where)
        raise EnvFailed(f"environment {i} failed in {name} (its process died: {how})")

    def end(self) -> list[str]:
        """Close the copies and end their processes; see `Copies.end`."""
        reasons: list[str] = []
        for pipe in self.pipes:
            with suppress(OSError):
                pipe.send(("close", ()))
        deadline = time.monotonic() + PATIENCE
        try:
            for worker in self.workers:
                worker.join(max(deadline - time.monotonic(), 0.0))
        finally:
            for worker, pipe in zip(self.workers, self.pipes, strict=True):
                worker.kill()
                worker.join()
                with suppress(EOFError, OSError):
                    while pipe.poll():
                        kind, content = pipe.recv()
                        reasons += [content] * (kind == "closed")
                pipe.close()
        return reasons


def serve(i: int, make: Any, same_step: bool, reads: Mapping[str, Over], pipe: Any, parents: Any) -> None:
    """Run one copy in this process: obey orders until one says close, or the parent is gone."""
    gc.freeze()  # a fork must not finalise its parent's objects: the threads that this needs are not here
    parents.close()
    leave_to_leader()
    copy: Copy | None = None
    try:
        copy = Copy(make.fn, i, same_step, reads)
        pipe.send(("answer", copy.spaces()))
        while (order := pipe.recv())[0] != "close":
            method, given = order
            with failing(f"environment {i}", method):
                pipe.send(("answer", getattr(copy, method)(*given)))
    except (EOFError, BrokenPipeError):
        pass
    except BaseException as error:
        with suppress(OSError):
            pipe.send(("interrupted", None) if isinstance(error, KeyboardInterrupt) else ("failed", portable(error)))
    if copy is not None:
        why = copy.close()
        with suppress(OSError):
            pipe.send(("closed", why))


def portable(error: BaseException) -> BaseException:
    """Return an exception that another process can read."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return EnvFailed(told(error), "".join(traceback.format_exception(error)))
