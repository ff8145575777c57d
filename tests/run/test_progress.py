"""The progress bar: it fits the terminal, and stays there at the run's end."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import re
import select
import struct
import sys
import termios
from types import SimpleNamespace
from typing import Any

import pytest

from pgrun.loop.train import Clock
from pgrun.run.progress import Progress


def watched(monkeypatch: pytest.MonkeyPatch, columns: int, steps: list[int], total: int) -> str:
    """The text that a terminal of this width is sent over these steps."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    terminal = os.fdopen(theirs, "w")
    monkeypatch.setattr(sys, "stderr", terminal)
    clock = Clock(total)
    stats: Any = SimpleNamespace(recent=[-1163.94])
    progress = Progress(clock, stats, SimpleNamespace(latest=-1234.5), show=True)  # type: ignore[arg-type]
    for step in steps:
        clock.steps, progress.next = step, 0.0
        clock.seconds["learn"] += 0.01
        progress(clock, {})
    logging.getLogger("pgrun").warning("a line of the log")
    progress.close(clock)
    terminal.flush()
    sent = b""
    while select.select([ours], [], [], 0.1)[0]:
        sent += os.read(ours, 65536)
    text = sent.decode()
    terminal.close()
    os.close(ours)
    return text


@pytest.mark.parametrize("columns", [80, 120])
def test_it_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = watched(monkeypatch, columns, [128, 60_000, 100_352], 100_000)
    lines = [line for line in re.split(r"[\r\n]", text) if "%|" in line]
    assert max(map(len, lines)) <= columns
    assert "return -1163.9, eval -1234.5]" in lines[-1]
    assert "█" in lines[-1]


def test_it_stays_at_its_end_where_the_last_rollout_goes_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    text = watched(monkeypatch, 80, [60_000, 100_352], 100_000)
    assert text.endswith("\n")
    assert text.rstrip().rpartition("\r")[2].startswith("100%|")


def test_a_run_that_stops_early_leaves_it_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    text = watched(monkeypatch, 80, [60_000], 100_000)
    assert text.rstrip().rpartition("\r")[2].startswith(" 60%|")


def test_elsewhere_there_is_a_line_with_its_unit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock = Clock(1000)
    stats: Any = SimpleNamespace(recent=[])
    progress = Progress(clock, stats, SimpleNamespace(latest=None), show=True)  # type: ignore[arg-type]
    clock.steps, progress.next = 250, 0.0
    clock.seconds["learn"] = 0.5
    with caplog.at_level("INFO", logger="pgrun"):
        progress(clock, {})
    assert caplog.messages[0].startswith("250 steps (25%), 500 steps/s, return –, ")
