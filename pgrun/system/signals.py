"""Ctrl-C and signals that ask a process to end: SIGTERM, a scheduler's warnings, the end of the terminal."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Stoppable(Protocol):
    """A loop's clock, as signals see it: it runs until somebody says why it is to stop."""

    stop: str


# Schedulers warn by these before they kill (Slurm's --signal, a limit of CPU time), and SIGHUP says that the terminal
# is gone. Where somebody handles or ignores one already (submitit, nohup), that stays as it is.
WARNINGS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


class Handler:
    """A signal handler of pgrun's, which another one of pgrun's may replace for a while.

    Args:
        react: handles the signal.
        answer: tells the user at once, even while the signal is held back.
    """

    def __init__(self, react: Callable[[int, Any], None], answer: Callable[[int], None] = lambda number: None) -> None:
        self.react, self.answer = react, answer

    def __call__(self, number: int, frame: Any) -> None:
        """Answer, then react."""
        self.answer(number)
        self.react(number, frame)


def heard() -> tuple[signal.Signals, ...]:
    """Return the signals that pgrun handles in this process; none outside its main thread, which alone can."""
    if threading.current_thread() is not threading.main_thread():
        return ()
    default = (number for number in WARNINGS if untouched(number))
    return (signal.SIGINT, signal.SIGTERM, *default)


def untouched(number: signal.Signals) -> bool:
    """Tell whether nobody but pgrun handles or ignores a signal."""
    handler = signal.getsignal(number)
    return handler is signal.SIG_DFL or isinstance(handler, Handler)


@contextmanager
def stop_on_signals(
    clock: Stoppable, say: Callable[[str], None] = lambda line: None, *, again: bool = True
) -> Iterator[None]:
    """Let the first signal stop the loop after the step it is in; of later ones only Ctrl-C kills it.

    Some programs send several: `timeout` sends one to the command and one to its group, a scheduler a warning first.

    Args:
        clock: the loop's clock.
        say: called once, at once, with a line for the user.
        again: whether a later Ctrl-C kills it. A job of a sweep has no user, and Ray sends the signal to cancel a task
            once more where the job takes two seconds to end.
    """
    said: list[int] = []

    def answer(number: int) -> None:
        if not said:
            said.append(number)
            by = "" if number == signal.SIGINT else f"{signal.Signals(number).name}: "
            say(f"{by}stopping after this step, then a checkpoint is written; Ctrl-C again ends it at once")

    def stop(number: int, frame: Any) -> None:
        if again and clock.stop == "interrupted" and number == signal.SIGINT:
            raise KeyboardInterrupt
        clock.stop = "interrupted"

    with on_signals(stop, answer):
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a signal raise KeyboardInterrupt at once: there is nothing to lose."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    with on_signals(stop):
        yield


@contextmanager
def held_back() -> Iterator[None]:
    """Delay signals until the block is over, so that what it writes is written completely."""
    came: list[int] = []
    outer = {number: signal.getsignal(number) for number in heard()}

    def answer(number: int) -> None:
        handler = outer.get(signal.Signals(number))
        if isinstance(handler, Handler):
            handler.answer(number)

    with on_signals(lambda number, frame: came.append(number), answer):
        yield
    for number in came:
        signal.raise_signal(number)


PATIENCE = 5.0  # seconds that a signal waits for an import


def interrupt_on_signals() -> None:
    """From here on let the first signal raise KeyboardInterrupt, and of later ones only Ctrl-C.

    An import is waited for: native modules pass over an exception in what they import, and go on with half of that.
    """
    due: list[float] = []  # when the first signal waits no longer
    retried: list[int] = []  # it, while it comes again

    def stop(number: int, frame: Any) -> None:
        if not due:
            due.append(time.monotonic() + PATIENCE)
        elif number in retried:
            retried.remove(number)
        elif number != signal.SIGINT:
            return
        else:
            raise KeyboardInterrupt
        if not importing(frame) or time.monotonic() > due[0]:
            raise KeyboardInterrupt
        before = signal.getsignal(signal.SIGALRM)
        signal.signal(signal.SIGALRM, lambda *_: retry(number, before))
        signal.setitimer(signal.ITIMER_REAL, 0.02)

    def retry(number: int, before: Any) -> None:
        signal.signal(signal.SIGALRM, before)
        retried.append(number)
        signal.raise_signal(number)  # whoever handles it by now

    for number in heard():
        signal.signal(number, Handler(stop))


def importing(frame: Any) -> bool:
    """Tell whether a frame is part of an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def leave_to_leader(*, term: bool = True) -> None:
    """Ignore signals that reach all processes of a terminal or a scheduler's job: the leading process decides.

    Args:
        term: ignore SIGTERM, too.
    """
    for number in heard():
        if term or number != signal.SIGTERM:
            # what this process starts inherits SIG_IGN, and has to be able to be ended by SIGTERM
            signal.signal(number, Handler(lambda *_: None) if number == signal.SIGTERM else signal.SIG_IGN)


@contextmanager
def unheard_by_children() -> Iterator[None]:
    """Block a scheduler's warnings in processes that are started in the block, even before they run pgrun's code."""
    numbers = {number for number in WARNINGS if untouched(number)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def on_signals(stop: Callable[[int, Any], None], answer: Callable[[int], None] = lambda number: None) -> Iterator[None]:
    """Handle pgrun's signals by `stop` and `answer` within the block; see `Handler`."""
    handler = Handler(stop, answer)
    with signals_kept() as handled:
        for number in handled:
            signal.signal(number, handler)
        yield


@contextmanager
def signals_kept() -> Iterator[tuple[signal.Signals, ...]]:
    """Restore the handlers of pgrun's signals after the block, which may change them.

    Yields:
        These signals.
    """
    before = {number: signal.getsignal(number) for number in heard()}
    try:
        yield tuple(before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
