"""A stranger's files execute nothing, tell nothing, write nothing and take no memory: each gets one line."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import ALONE, CASES, SECRET, TRAINED, Place
from shell import Said, pgrun_inside

MOST = 1_000_000  # kilobytes
QUICK = ("env_kwargs_nested", "env_id_module", "environment_as_an_id", "text_for_tensors", "config_file_laughs")


@pytest.fixture(scope="session")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good run, which was made somewhere else: its record is not this machine's."""
    folder = tmp_path_factory.mktemp("theirs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        said = pgrun_inside(*TRAINED, "hydra.run.dir=run", cwd=folder)
    assert said.code == 0, said.err
    return folder / "run"


@pytest.fixture
def place(sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A folder where the run was put, and in which its receiver stands."""
    monkeypatch.setenv("PGRUN_SECRET", SECRET)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    here = tmp_path / "here"
    here.mkdir()
    shutil.copytree(sent, here / "run", symlinks=True)
    return Place(here, tmp_path / "canary")


def listing(folder: Path) -> dict[str, str]:
    """Everything in a folder, with its kind, its times and what is in it.

    But for the lock that a command takes, and the config that Hydra writes into a sweep's folder before a job.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name in (".lock", "multirun.yaml") and not path.is_symlink():
            continue
        status = path.lstat()
        kind = f"{status.st_mode} {status.st_size}"
        if path.is_symlink():
            kind += os.readlink(path)
        elif path.is_file() and status.st_size < 10**8:
            kind += hashlib.sha256(path.read_bytes()).hexdigest() + str(status.st_mtime_ns)
        found[str(path)] = kind
    return found


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """End what waits for ever."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def by_itself(arguments: list[str], cwd: Path) -> Said:
    """Run a command as a process of its own, and look at the memory that it took."""
    # measured by a process between: what this one has taken so far counts as its children's
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    err, _, taken = done.stderr.rpartition("\x00")
    assert int(taken) < MOST, f"{taken} kB"
    return Said(done.returncode, done.stdout, err)


MEASURED = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "pgrun", *sys.argv[1:]]).returncode
sys.stderr.write(chr(0) + str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code if code >= 0 else 1)
"""


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES])
def test_what_a_stranger_sends(name: str, place: Place) -> None:
    arguments = CASES[name](place)
    before, memory = listing(place.here), peak()
    with at_most(60):
        said = by_itself(arguments, place.here) if name in ALONE else pgrun_inside(*arguments, cwd=place.here)
    assert not os.path.lexists(place.canary), "it ran"
    assert SECRET not in said.out + said.err, "it told"
    assert "Traceback" not in said.err
    assert (said.code, len(said.err.splitlines()), said.out) == (2, 1, ""), said.err
    assert said.err.startswith("pgrun: ")
    assert listing(place.here) == before, "it wrote"
    assert peak() - memory < MOST


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES])
def test_the_doctor_only_reads(name: str, place: Place) -> None:
    CASES[name](place)
    before, memory = listing(place.here), peak()
    with at_most(60):
        said = pgrun_inside("doctor", "run", cwd=place.here)
    assert not os.path.lexists(place.canary), "it ran"
    assert SECRET not in said.out + said.err, "it told"
    assert "Traceback" not in said.err
    assert "was not made here" not in said.err, "it was refused"
    assert (said.code, len(said.err.splitlines())) in ((0, 0), (2, 1)), said.err
    assert listing(place.here) == before, "it wrote"
    assert peak() - memory < MOST
