"""Locks: what is somebody else's, and what is no lock at all."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from pgrun.errors import UserError
from pgrun.run.alone import alone
from pgrun.sweep.launchers.worker import Job, run_in_folder
from pgrun.sweep.session import SweepSession
from pgrun.system.lock import Lock


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN, errno.ENOLCK, errno.EOPNOTSUPP])
def test_what_the_system_says_of_a_lock(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refused)
    lock = Lock(tmp_path / ".lock")
    if number in (errno.EACCES, errno.EAGAIN):
        assert not lock.take()
    else:
        with pytest.raises(UserError, match=rf"no locks \({os.strerror(number)}\)"):
            lock.take()


def test_a_lock_that_can_t_be_written(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match=r"\.lock can't be written: Is a directory"):
        Lock(tmp_path / ".lock").take()


def test_two_processes_at_one_run(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from pgrun.run.alone import alone\n"
    code += "with alone(Path(sys.argv[1])): print(1)"

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)

    with alone(tmp_path):
        assert f"process {os.getpid()} on" in other().stderr
    assert other().stdout == "1\n"


def test_a_run_goes_on_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refused)
    with alone(tmp_path):
        pass


def test_a_sweep_where_there_are_no_locks_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refused)
    with pytest.raises(UserError, match="no locks"):
        SweepSession(tmp_path / "multirun" / "a").begin(["-m"])
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_s_folder_that_can_t_be_made(tmp_path: Path) -> None:
    (tmp_path / "multirun").touch()
    with pytest.raises(UserError, match="multirun/a can't be made: Not a directory"):
        SweepSession(tmp_path / "multirun" / "a").begin(["-m"])


def test_a_job_that_can_t_have_its_lock_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "0" / ".lock").mkdir(parents=True)
    context: Any = None
    result = run_in_folder(Job(0, [], DictConfig({}), tmp_path / "0"), context)
    assert result["status"] == "failed"
    assert ".lock can't be written" in result["error"]


def test_a_refused_sweep_takes_nothing_of_an_earlier_session_s(tmp_path: Path) -> None:
    first = SweepSession(tmp_path / "a").begin(["-m"])
    (tmp_path / "a" / "optuna.journal").touch()
    first.free()
    again = SweepSession(tmp_path / "a").begin(["-m"])
    again.withdraw()
    assert (tmp_path / "a" / "optuna.journal").exists()
    again.free()
    first.withdraw()
    assert not (tmp_path / "a").exists()
