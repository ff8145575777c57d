"""A path that is no run directory: one line says which run is meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from run_folders import run_folder
from shell import pgrun_inside

import pgrun
from pgrun.run.directory import check_run
from pgrun.run.no_run import why_no_run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("old", "new")):
        folder = run_folder(tmp_path / "runs" / "ppo-cartpole" / name)
        for file in folder.iterdir():
            os.utime(file, (1000 + number, 1000 + number))


def test_a_folder_above_runs_names_the_latest() -> None:
    said = "no run directory but a folder above runs; the latest is runs/ppo-cartpole/new; pgrun runs lists them"
    assert why_no_run(Path("runs")) == f"runs is {said}"
    assert why_no_run(Path("runs/ppo-cartpole")).endswith("pgrun runs runs/ppo-cartpole lists them")
    with pytest.raises(pgrun.UserError, match="a folder above runs"):
        check_run(Path("runs"))


def test_what_lies_in_a_run_names_it() -> None:
    file, run = Path("runs/ppo-cartpole/new/result.json"), "runs/ppo-cartpole/new"
    assert why_no_run(file) == f"{file} is a file, no run directory; its run is {run}"
    (file.parent / "checkpoints").mkdir()
    assert why_no_run(file.parent / "checkpoints").endswith(f"lies in one; its run is {run}")


@pytest.mark.parametrize("command", ["eval", "play", "resume", "verify", "reproduce", "doctor"])
def test_every_command_says_so(command: str, tmp_path: Path) -> None:
    said = pgrun_inside(
        command, "runs/ppo-cartpole/new/result.json", *(("--video", "x.gif") * (command == "play")), cwd=tmp_path
    )
    assert said.code == 2
    assert said.line.endswith("is a file, no run directory; its run is runs/ppo-cartpole/new")


def test_nothing_like_a_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert why_no_run(Path("empty")) == "empty is no run directory: it has no .hydra/config.yaml"
    lost = Path("runs/ppo-cartpole/new")
    assert why_no_run(lost) == f"{lost} is no run directory: it has no .hydra/config.yaml"
    (tmp_path / "file").touch()
    assert why_no_run(Path("file")) == "file is a file, no run directory"
