"""What Ctrl-C and SIGTERM do."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgrun.train import Clock


@contextmanager
def stop_on_signals(clock: Clock) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) stops the loop after the update it is in; the second kills it."""

    def stop(number: int, frame: Any) -> None:
        if clock.stop == "interrupted":
            raise KeyboardInterrupt
        clock.stop = "interrupted"

    with on_signals(stop):
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt at once: there is nothing to lose."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    with on_signals(stop):
        yield


@contextmanager
def on_signals(stop: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle SIGINT and SIGTERM so; only a process's main thread can."""
    with signals_kept() as handled:
        for number in handled:
            signal.signal(number, stop)
        yield


@contextmanager
def signals_kept() -> Iterator[tuple[signal.Signals, ...]]:
    """Put back the handlers of SIGINT and SIGTERM, which the block may change; -> those that this thread can handle."""
    if threading.current_thread() is not threading.main_thread():
        yield ()
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield tuple(before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
