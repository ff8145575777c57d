"""An override that can't be read is one line with the quotes that it needs."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from commands_inside import run
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pgrun.api.shown_config import first_job
from pgrun.config.quoting import in_quotes, unreadable
from pgrun.errors import UserError
from pgrun.run.changes import change

VALUES = (
    "s/0_seed=0",
    "a#b",
    "(1)",
    "~/x",
    "runs/[1]",
    'say "x"=1',
    "back\\=",
    'a\\"=',
    "it's=1",
    "a b=c",
    "={",
    "x: y=1",
)


@pytest.mark.parametrize("value", VALUES)
def test_what_is_said_can_be_pasted_and_is_read_as_it_was_meant(value: str) -> None:
    said = unreadable(f"algo.init_from={value}")
    (typed,) = shlex.split(said.partition("or the like: ")[2])
    override = OverridesParser.create().parse_override(typed)
    assert (override.key_or_group, override.value()) == ("algo.init_from", value)


@pytest.mark.parametrize(
    ("override", "argv", "words"),
    [
        (
            "runs/a",
            ["algo.init_from=my", "runs/a"],
            ["belongs to algo.init_from=my, as 'algo.init_from=\"my runs/a\"'"],
        ),
        ("algo.gamma", ["algo.gamma"], ["can't read 'algo.gamma': write key=value"]),
        ("a=b=1,c=2", [], ['\'a="b=1,c=2"\', or to sweep over 2 values \'a="b=1","c=2"\'']),
        ("seed=range(a)", [], ["range takes numbers, as 'seed=range(3)'"]),
        ("a=[b=1]", [], ["quote what holds = # ( ~"]),
        ("a b c=(", [], ["can't read 'a b c=('"]),
        ("++eval.env.id=a#b", [], ["can't read 'eval.env.id=a#b'", "'eval.env.id=\"a#b\"'"]),
    ],
)
def test_other_things_that_can_t_be_read(override: str, argv: list[str], words: list[str]) -> None:
    said = unreadable(override, argv)
    assert all(word in said for word in words), said


def test_a_key_that_can_t_be_read_is_not_mended() -> None:
    assert in_quotes("a b?", "x") == ""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["algo.init_from=a=b"], ["can't read 'algo.init_from=a=b'", "'algo.init_from=\"a=b\"'"]),
        (["-m", "algo.init_from=a=b,c"], ['\'algo.init_from="a=b","c"\'']),
        (["seed=0,1"], ["may be a list, a text or a sweep", "'seed=[0,1]'", "-m seed=0,1"]),
        (["hydra.run.dir="], ["hydra.run.dir is empty", "hydra.run.dir=. is this one"]),
        (["-m", "hydra.sweep.dir=", "seed=0,1"], ["hydra.sweep.dir is empty"]),
        (["-m", "--run"], ["-m and --run can't be had at once"]),
    ],
)
def test_the_shell_says_it_and_writes_nothing(
    arguments: list[str], words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line
    assert list(here.iterdir()) == []


def test_a_sweep_s_config_is_its_first_job_s(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-m", "seed=range(3,5)", "--cfg", "job", "algo=a2c,ppo", "optimizer.lr=interval(0.1,0.2)"]
    assert first_job(arguments) == ["--cfg", "job", "seed=3", "algo=a2c", "optimizer.lr=0.1"]
    assert run(*arguments) == 0
    assert "seed: 3\n" in capsys.readouterr().out
    assert list(here.iterdir()) == []
    assert first_job(["seed=1", "--config-dir", "x", "a=b"]) == ["--config-dir", "x", "seed=1", "a=b"]


@pytest.mark.parametrize("override", ["eval.env.id=a#b", "eval.env.kwargs.x=a=b", "eval.env.id=(1)"])
def test_nor_can_it_be_read_after_a_run(override: str) -> None:
    value = override.partition("=")[2]
    with pytest.raises(UserError, match="can't read") as caught:
        change(OmegaConf.create({"eval": {"env": {}}, "env": {"id": "x"}}), [override], ("eval.env",), "here")
    assert f'="{value}"' in str(caught.value)
