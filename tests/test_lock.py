"""Locks: what is somebody else's, and what is no lock at all."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from pgrun.errors import UserError
from pgrun.lock import Lock


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
