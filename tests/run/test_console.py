"""The commands that pgrun prints can be pasted into the shell that it was called from."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from commands_inside import run

from pgrun.run.console import pasted, shown


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_path_is_quoted_and_is_no_option(here: Path) -> None:
    assert pasted(here / "runs" / "a") == "runs/a"
    assert pasted(here / "my runs" / "a [1]") == "'my runs/a [1]'"
    assert pasted(here / "-x") == "./-x"
    assert pasted(Path("/elsewhere/it's")) == shlex.quote("/elsewhere/it's")
    assert str(shown(here / "-x")) == "-x"


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        (["hydra.run.dir='my runs/a [1]'"], "my runs/a [1]"),
        (["hydra.run.dir=runs/a/b", "hydra.job.chdir=true"], "runs/a/b"),
    ],
)
def test_what_is_printed_at_a_run_s_end(
    overrides: list[str], folder: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*overrides) == 0
    *_, curves, evaluate = map(shlex.split, capsys.readouterr().out.splitlines())
    assert evaluate == ["evaluate", "pgrun", "eval", folder]
    assert curves == ["curves", "tensorboard", "--logdir", "runs" if folder == "runs/a/b" else folder]
    assert (here / folder / "checkpoints").is_dir()


def test_a_taken_directory_s_line_can_be_pasted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my run").mkdir()
    (here / "my run" / "result.json").touch()
    assert run("hydra.run.dir='my run'") == 2
    assert "by pgrun resume 'my run', or choose" in capsys.readouterr().err
