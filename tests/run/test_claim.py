"""Taking a run's directory: what is taken, what can't be, and that a refusal leaves nothing."""

from __future__ import annotations

import builtins
import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from commands_inside import SHORT, run, tree
from probes import One
from shell import Said, pgrun

from pgrun.errors import UserError
from pgrun.run.claim import Claim, holds_run, refuse_taken
from pgrun.shell.cli import main
from pgrun.sweep.resolvers import FreeFolders

SHORT += ["eval.final_episodes=1"]
INTERPOLATED = "hydra.run.dir=runs/lr_${optimizer.lr}_s${seed}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, and no memory of other tests' runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pgrun"])
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], code: object) -> str:
    """The one line on stderr of a command that was refused."""
    assert code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_second_run_in_one_directory_however_it_is_spelled(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(INTERPOLATED) == 0
    (folder,) = here.glob("runs/*")
    (here / "link").symlink_to("runs")
    (here / "conf" / "place").mkdir(parents=True)
    text = f"# @package _global_\nhydra:\n  run:\n    dir: {INTERPOLATED.partition('=')[2]}\n"
    (here / "conf" / "place" / "same.yaml").write_text(text)
    before = tree(here)
    spellings: list[list[str]] = [
        [INTERPOLATED],
        [f"hydra.run.dir=./link/../runs/{folder.name}/"],
        ["--config-dir", "conf", "+place=same"],
        [INTERPOLATED, "hydra.job.chdir=true", "hydra.output_subdir=null"],
    ]
    for spelling in spellings:
        capsys.readouterr()
        line = refusal(capsys, run(*spelling))
        assert "holds a run already: go on with it by pgrun resume " in line
        assert tree(here) == before, spelling


@pytest.mark.parametrize("left", ["result.json", "pgrun.log", "cfg/config.yaml", "checkpoints/step_5.pt.sha256"])
def test_whatever_is_left_of_a_run_protects_its_directory(left: str, here: Path) -> None:
    path = here / "run" / left
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(UserError, match="run holds a run already"):
        refuse_taken(here / "run", "hydra.run.dir=run", "cfg")


def test_files_of_others_are_no_run(here: Path) -> None:
    (here / "checkpoints").mkdir()
    for name in ("checkpoints/step_100.pt", "checkpoints/.draft.tmp", "train.py"):
        (here / name).touch()
    assert not holds_run(here, ".hydra")


def test_of_two_runs_started_together_one_writes_nothing(here: Path) -> None:
    code = "import sys; from pathlib import Path; from pgrun.run.claim import Claim\nClaim(Path('run'), 'run', None)"
    first = Claim(Path("run"), "run", ".hydra")
    before = tree(here)
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"run: process {os.getpid()} on" in other.stderr
    assert tree(here) == before
    first.lock.free()  # killed, say: what it left of a lock is no lock
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).returncode == 0


def test_who_is_refused_by_the_lock_alone_leaves_the_winner_s(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    winner = f"{'0' * 32} 12345 elsewhere"

    def busy(file: int, how: int) -> None:  # the other came between the look and the lock
        os.write(file, winner.encode())
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(fcntl, "lockf", busy)
    with pytest.raises(UserError, match="process 12345 on elsewhere is at this very run"):
        Claim(Path("runs/a"), "runs/a", None)
    (left,) = (path for path in here.rglob("*") if path.is_file())
    assert left.read_text() == winner


@pytest.mark.slow
def test_a_run_is_locked_while_it_runs_and_resumed_by_one_process(here: Path) -> None:
    refused: list[Said] = []

    class Watched(One):
        """An environment at whose first step another process tries to resume the run."""

        def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
            if not refused:
                refused.append(pgrun("resume", "run", cwd=here))
            return super().step(action)

    gym.register("Watched-v0", entry_point=Watched)  # type: ignore[arg-type]
    try:
        assert run("hydra.run.dir=run", "env=gym", "env.id=Watched-v0", "env.backend=sync") == 0
    finally:
        del gym.registry["Watched-v0"]
    (said,) = refused
    assert said.code == 2
    assert f"run: process {os.getpid()} on" in said.line
    assert json.loads((here / "run" / "result.json").read_text())["status"] == "finished"


def test_a_command_knows_nothing_of_the_one_before_in_its_process(here: Path) -> None:
    assert main(["-m", "seed=0,1", "hydra.sweep.dir=sweep", "+env.kwargs.gravity=1", *SHORT]) == 1
    assert run("hydra.run.dir=fine") == 0


LONG = "a" * 300


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        (f"hydra.run.dir={LONG}", "File name too long"),
        (f"hydra.run.dir=new/{LONG}/x", "File name too long"),
        ("hydra.run.dir=" + "/".join([LONG[:200]] * 21), "File name too long"),
        ("hydra.run.dir=new/${hydra.job.override_dirname}" + LONG, "File name too long"),
        ("hydra.run.dir='${free_dir:new/" + LONG + "}'", "File name too long"),
        ("hydra.run.dir=file/x", "Not a directory"),
        ("hydra.run.dir=file", "Not a directory"),
        ("hydra.run.dir=gone/x", "a link to what is not there"),
        ("hydra.run.dir='${free_dir:gone/x}'", "a link to what is not there"),
    ],
)
def test_a_directory_that_can_t_be(argument: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").touch()
    (here / "gone").symlink_to("nowhere")
    line = refusal(capsys, run(argument))
    assert line.startswith("pgrun: hydra.run.dir=")
    assert says in line
    assert len(line) < 500
    assert sorted(path.name for path in here.iterdir()) == ["file", "gone"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("call", ["mkdir", "write"])
def test_a_disk_that_takes_nothing(number: int, call: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "there")

    place, name = {"mkdir": (Path, "mkdir"), "write": (os, "write")}[call]
    with monkeypatch.context() as patched:
        patched.setattr(place, name, refused)
        with pytest.raises(UserError, match=os.strerror(number)):
            Claim(Path("runs/a"), "runs/a", ".hydra")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EDQUOT])
def test_a_disk_that_takes_no_config(
    number: int, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open

    def refused(file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        if ".hydra" in Path(str(file)).parts and mode != "r":
            raise OSError(number, os.strerror(number), "there")
        return opened(file, mode, *more, **options)

    monkeypatch.setattr(builtins, "open", refused)
    line = refusal(capsys, run("hydra.run.dir=runs/a"))
    assert line == f"pgrun: there can't be written: {os.strerror(number)}"
    assert list(here.iterdir()) == []


def test_a_withdrawn_claim_leaves_what_was_there(here: Path) -> None:
    (here / "mine").write_text("mine")
    taken = Claim(here, ".", ".hydra")
    (here / ".hydra").mkdir()
    (here / ".hydra" / "config.yaml").touch()
    (here / "pgrun.log").touch()
    taken.withdraw()
    assert [path.name for path in here.iterdir()] == ["mine"]
    kept = Claim(here, ".", ".hydra")
    kept.keep()
    (here / "result.json").touch()
    kept.withdraw()
    assert (here / "result.json").exists()


def test_a_default_directory_is_made_once_and_withdrawn_with_its_parents(here: Path) -> None:
    folders = FreeFolders()
    with folders.claiming():
        named = folders("runs/ppo/1")
    taken = Claim(Path(named), named, None, folders.made)
    assert Path("runs/ppo/1/.lock").exists()
    taken.withdraw()
    assert not Path("runs").exists()


def test_a_name_that_is_resolved_twice_is_the_same(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omegaconf import OmegaConf

    count = iter(range(100))
    OmegaConf.register_new_resolver("test_count", lambda: next(count), replace=True)
    assert run("hydra.run.dir=run_${test_count:}") == 0
    (folder,) = here.iterdir()
    assert {".lock", "result.json", ".hydra"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
