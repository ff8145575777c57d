"""Ctrl-C and the signals that ask a process to end: SIGTERM, a scheduler's warnings, a terminal that is gone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Stoppable(Protocol):
    """The clock of a loop, as signals see it: it goes on until somebody says why it is to stop."""

    stop: str


# Schedulers warn by these before they kill (Slurm's --signal, a limit of CPU time), and SIGHUP says that the terminal
# is gone. Where somebody handles or ignores one already (submitit, nohup), that stays as it is.
WARNINGS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


class Handler:
    """A handler of pgrun's, which another one of pgrun's may replace for a while.

    Args:
        react: what it does.
        answer: what it says at once, even while a signal is held back.
    """

    def __init__(self, react: Callable[[int, Any], None], answer: Callable[[int], None] = lambda number: None) -> None:
        self.react, self.answer = react, answer

    def __call__(self, number: int, frame: Any) -> None:
        self.answer(number)
        self.react(number, frame)


def heard() -> tuple[signal.Signals, ...]:
    """The signals that pgrun handles in this process; none outside its main thread, which alone can."""
    if threading.current_thread() is not threading.main_thread():
        return ()
    default = (number for number in WARNINGS if untouched(number))
    return (signal.SIGINT, signal.SIGTERM, *default)


def untouched(number: signal.Signals) -> bool:
    """Whether nobody but pgrun has said what a signal does."""
    handler = signal.getsignal(number)
    return handler is signal.SIG_DFL or isinstance(handler, Handler)


@contextmanager
def stop_on_signals(clock: Stoppable, say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """The first signal stops the loop after the step it is in; of later ones Ctrl-C alone kills it.

    Some send several: `timeout` one to the command and one to its group, a scheduler a warning before the end.

    Args:
        clock: the loop's.
        say: is told, once and at once, that the signal was heard.
    """
    said: list[int] = []

    def answer(number: int) -> None:
        if not said:
            said.append(number)
            by = "" if number == signal.SIGINT else f"{signal.Signals(number).name}: "
            say(f"{by}stopping after this step, then a checkpoint is written; Ctrl-C again ends it at once")

    def stop(number: int, frame: Any) -> None:
        if clock.stop == "interrupted" and number == signal.SIGINT:
            raise KeyboardInterrupt
        clock.stop = "interrupted"

    with on_signals(stop, answer):
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """A signal raises KeyboardInterrupt at once: there is nothing to lose."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    with on_signals(stop):
        yield


@contextmanager
def held_back() -> Iterator[None]:
    """Signals that come in the block are handled after it, so that what it writes is written whole."""
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


def interrupt_on_signals() -> None:
    """From here on the first signal raises KeyboardInterrupt at once, and of later ones Ctrl-C alone does."""
    asked: list[int] = []

    def stop(number: int, frame: Any) -> None:
        asked.append(number)
        if len(asked) == 1 or number == signal.SIGINT:
            raise KeyboardInterrupt

    for number in heard():
        signal.signal(number, Handler(stop))


def leave_to_leader(*, term: bool = True) -> None:
    """Ignore what reaches every process of a terminal or of a scheduler's job: the process that leads decides.

    Args:
        term: SIGTERM too.
    """
    for number in heard():
        if term or number != signal.SIGTERM:
            # what this process starts inherits SIG_IGN, and has to be able to be ended by SIGTERM
            signal.signal(number, Handler(lambda *_: None) if number == signal.SIGTERM else signal.SIG_IGN)


@contextmanager
def unheard_by_children() -> Iterator[None]:
    """A process that is started in the block hears no scheduler's warnings, not even before it runs code of pgrun's."""
    numbers = {number for number in WARNINGS if untouched(number)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def on_signals(stop: Callable[[int, Any], None], answer: Callable[[int], None] = lambda number: None) -> Iterator[None]:
    """Handle the signals that pgrun hears so."""
    handler = Handler(stop, answer)
    with signals_kept() as handled:
        for number in handled:
            signal.signal(number, handler)
        yield


@contextmanager
def signals_kept() -> Iterator[tuple[signal.Signals, ...]]:
    """Put back the handlers of the signals that pgrun hears, which the block may change; -> these signals."""
    before = {number: signal.getsignal(number) for number in heard()}
    try:
        yield tuple(before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
