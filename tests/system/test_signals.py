"""Signals that ask a run to end: which are heard, that what is written is written whole, and several at once."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import new_run

from pgrun.loop.train import Clock
from pgrun.run import checkpoint
from pgrun.run import checkpoint_files as written
from pgrun.system import signals
from pgrun.system.signals import (
    WARNINGS,
    heard,
    held_back,
    interrupt_on_signals,
    interruptible,
    leave_to_leader,
    stop_on_signals,
    unheard_by_children,
)

ALL = (signal.SIGINT, signal.SIGTERM, *WARNINGS)
SHORT: tuple[str, ...] = (
    "algo=reinforce",
    "total_steps=100_000",
    "num_envs=2",
    "network.hidden=[8]",
    "eval.every=null",
)
SHORT = (*SHORT, "checkpoint.every=null", "eval.final_episodes=1")


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Each test begins with the default handlers, and gives back those that were there."""
    before = {number: signal.getsignal(number) for number in ALL}
    for number in ALL:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ALL, ids=lambda number: signal.Signals(number).name)
def test_a_run_that_is_asked_to_end_writes_its_checkpoint(number: signal.Signals, tmp_path: Path) -> None:
    run = new_run(tmp_path, *SHORT)
    collect = run.parts.collector.collect

    def asked(algorithm: Any) -> Any:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)  # `timeout` sends one to the command, and one to its group
        return collect(algorithm)

    run.parts.collector.collect = asked  # type: ignore[method-assign]
    result = run.execute()
    assert result["status"] == "interrupted"
    assert result["updates"] == 0  # between two steps: the open rollout is in the checkpoint
    assert checkpoint.load(tmp_path / "checkpoints" / "latest.pt")["clock"]["steps"] == result["env_steps"]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> Any:
    """Import a module that passes over whatever is raised in it, and wait for a signal that came meanwhile."""
    inside = f"try:\n    {lines}\n    whole = True\nexcept BaseException:\n    pass\n"
    (tmp_path / "signalled.py").write_text(f"import os, signal, time\nwhole = False\n{inside}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "signalled", raising=False)
    module = importlib.import_module("signalled")
    with pytest.raises(KeyboardInterrupt):
        time.sleep(5)
    return module


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_waits_for_an_import(number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alarm = signal.getsignal(signal.SIGALRM)
    interrupt_on_signals()
    assert imported(tmp_path, monkeypatch, f"os.kill(os.getpid(), signal.{number}); time.sleep(0.1)").whole
    assert signal.getsignal(signal.SIGALRM) == alarm


def test_a_second_ctrl_c_waits_for_no_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_on_signals()
    twice = "os.kill(os.getpid(), signal.SIGINT); " * 2
    assert not imported(tmp_path, monkeypatch, twice + "time.sleep(0.1)").whole


def test_an_import_without_an_end_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "PATIENCE", 0.05)
    interrupt_on_signals()
    (tmp_path / "endless.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\nwhile True: time.sleep(0.01)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        importlib.import_module("endless")


def test_handlers_of_others_stay() -> None:
    def requeue(*_: Any) -> None:
        """Submitit's, say."""

    signal.signal(signal.SIGUSR2, requeue)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # by nohup
    assert heard() == (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU)
    with stop_on_signals(Clock(1)):
        assert signal.getsignal(signal.SIGUSR2) is requeue
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with interruptible(), pytest.raises(KeyboardInterrupt):  # one of pgrun's own gives way
            os.kill(os.getpid(), signal.SIGUSR1)


def test_ctrl_c_alone_kills_the_second_time() -> None:
    clock = Clock(1)
    with stop_on_signals(clock):
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert clock.stop == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_first_signal_before_a_run_begins_ends_the_command() -> None:
    interrupt_on_signals()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGHUP)
    for number in ALL[1:]:
        os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_job_without_a_user_is_killed_by_no_later_ctrl_c():
    clock = Clock(1)
    with stop_on_signals(clock, again=False):
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert clock.stop == "interrupted"


def test_a_second_signal_while_a_checkpoint_is_written_tears_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, replace = new_run(tmp_path, *SHORT), written.replace

    def disturbed(path: Path, data: Any) -> None:
        for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        replace(path, data)

    monkeypatch.setattr(written, "replace", disturbed)
    clock = Clock(1)
    with stop_on_signals(clock), pytest.raises(KeyboardInterrupt):
        run.write()
    assert clock.stop == "interrupted"
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".written-by-pgrun",
        "latest.pt",
        "step_0.pt",
        "step_0.pt.sha256",
    ]
    assert checkpoint.load(folder / "latest.pt")["clock"]["steps"] == 0


def test_what_is_held_back_comes_after() -> None:
    came = []
    with signals.on_signals(lambda number, _: came.append(number)):
        with held_back():
            os.kill(os.getpid(), signal.SIGUSR2)
            assert came == []
        assert came == [signal.SIGUSR2]


def test_the_first_signal_is_answered_at_once_and_only_once() -> None:
    said: list[str] = []
    clock = Clock(1)
    with stop_on_signals(clock, said.append):
        with held_back():  # a checkpoint is being written
            os.kill(os.getpid(), signal.SIGTERM)
            assert len(said) == 1
            assert clock.stop == ""
        os.kill(os.getpid(), signal.SIGTERM)
    assert clock.stop == "interrupted"
    (line,) = said
    assert line.startswith("SIGTERM: stopping after this step, then a checkpoint is written; Ctrl-C again")
    said.clear()
    with stop_on_signals(Clock(1), said.append):
        os.kill(os.getpid(), signal.SIGINT)
    assert said[0].startswith("stopping after this step")


CHILD = "import time; print('up', flush=True); time.sleep(60)"
LEFT = "from pgrun.system.signals import leave_to_leader; leave_to_leader(); " + CHILD


@pytest.mark.parametrize("code", [CHILD, LEFT], ids=["masked", "left to the leader"])
def test_what_reaches_a_whole_group_ends_no_worker(code: str) -> None:
    if code is CHILD:
        with unheard_by_children():
            child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    else:
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        for number in (*WARNINGS, *((signal.SIGTERM, signal.SIGINT) if code is LEFT else ())):
            child.send_signal(number)
        time.sleep(0.3)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGUSR1)  # here they are heard as before


def test_simulators_of_a_worker_can_be_ended() -> None:
    leave_to_leader()
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    child.terminate()
    assert child.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_group_s_signal_with_environments_in_processes(number: signal.Signals, tmp_path: Path) -> None:
    run = new_run(tmp_path, *SHORT, "env.backend=async")
    workers = run.parts.collector.env.env.workers  # type: ignore[attr-defined]
    collect = run.parts.collector.collect

    def asked(algorithm: Any) -> Any:
        for worker in workers:
            os.kill(worker.pid, number)
        os.kill(os.getpid(), number)
        return collect(algorithm)

    run.parts.collector.collect = asked  # type: ignore[method-assign]
    assert run.execute()["status"] == "interrupted"
    assert not any(worker.is_alive() for worker in workers)
    other = new_run(tmp_path / "other", *SHORT, "env.backend=async")
    processes = other.parts.collector.env.env.workers  # type: ignore[attr-defined]
    for process in processes:
        process.terminate()  # what multiprocessing does with them when a command ends without closing them
        process.join(10)
        assert not process.is_alive()
    other.board.writer.close()


@pytest.mark.slow
def test_a_terminal_that_is_gone_costs_no_checkpoint(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        code = "from pgrun.shell.cli import entry; entry()"
        os.execv(sys.executable, [sys.executable, "-c", code, *SHORT, "total_steps=100_000_000", "hydra.run.dir=run"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))  # rows, columns
    seen, end = b"", time.monotonic() + 90
    while b"step/s" not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096)
    time.sleep(1.0)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted", seen
    assert checkpoint.latest(tmp_path / "run" / "checkpoints").exists()
    assert os.waitstatus_to_exitcode(status) != 0
