"""The shell as people use it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from shell import forbid, pgrun, pgrun_inside

from pgrun.config.command_line import whole_numbers
from pgrun.config.groups import GROUPS, members
from pgrun.config.paths import config_dir
from pgrun.shell.cli import help_page, main
from pgrun.sweep.resolvers import FreeFolders, register_resolvers

FIELDS = {
    "status",
    "algo",
    "env",
    "seed",
    "env_steps",
    "updates",
    "wall_seconds",
    "steps_per_second",
    "train_return_mean",
    "eval_return_mean",
    "eval_return_std",
    "eval_episodes",
    "best_eval_return_mean",
    *("env_id", "command", "tuned", "versions", "sessions", "train_seconds"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder, run/ in its working directory."""
    work = tmp_path_factory.mktemp("shell")
    said = pgrun("total_steps=4e3", "eval.every=2000", "eval.final_episodes=5", "hydra.run.dir=run", cwd=work)
    assert said.code == 0, said.err
    assert "run directory  run" in said.out
    assert "pgrun eval run" in said.out
    assert "tensorboard --logdir" in said.out
    return work


def test_help_is_its_own_and_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("torch", "numpy", "gymnasium", "hydra", "omegaconf")
    said = pgrun("--help", cwd=tmp_path, **forbid(tmp_path / "hook", *heavy))
    assert said.code == 0, said.err
    for word in ("algo", "cartpole", "mlp", "adam", "resume", "eval", "list", "--config-dir"):
        assert word in said.out
    assert said.out == help_page()


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    for group, member in (("algos", "ppo"), ("envs", "halfcheetah"), ("networks", "cnn"), ("optimizers", "sgd")):
        assert main(["list", group]) == 0
        assert member in capsys.readouterr().out
    assert main(["list"]) == 0
    assert "reinforce" in capsys.readouterr().out


def test_every_group_of_the_shipped_configs_is_listed() -> None:
    found = {path.parent.relative_to(config_dir()).as_posix() for path in config_dir().rglob("*.yaml")}
    groups = {group for group in found if not group.startswith((".", "hydra", "tuned", "algo/parts"))}
    assert set(GROUPS.values()) == groups
    said = help_page()
    for group in groups:
        assert re.search(rf"^  \+?{group} .*\b{next(iter(members(group)))}\b", said, re.MULTILINE), group


def test_run_directory(trained: Path) -> None:
    run = trained / "run"
    for name in (".hydra/config.yaml", "checkpoints/latest.pt", "checkpoints/best.pt", "result.json", "pgrun.log"):
        assert (run / name).exists(), name
    assert list(run.glob("events.out.tfevents.*"))
    result = json.loads((run / "result.json").read_text())
    assert set(result) >= FIELDS
    assert result["status"] == "finished"
    assert result["eval_episodes"] == 5


def test_a_run_directory_is_one_run_s(trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    said = pgrun_inside("total_steps=500", "hydra.run.dir=run", cwd=trained)
    assert said.code == 2
    assert said.line.startswith("pgrun: hydra.run.dir=run holds a run already: go on with it by pgrun resume run")
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


@pytest.mark.parametrize(
    "flags",
    [[], ["--checkpoint", "best"], ["--checkpoint", "run/checkpoints/latest.pt"], ["--seed", "3"], ["--stochastic"]],
)
def test_eval_prints_one_line_of_json(flags: list[str], trained: Path) -> None:
    said = pgrun_inside("eval", "run", "--episodes", "4", "--json", *flags, cwd=trained)
    assert said.code == 0, said.err
    assert len(said.out.strip().splitlines()) == 1
    result = json.loads(said.out)
    assert result["eval_episodes"] == 4
    assert set(result) >= {"algo", "env", "seed", "env_steps", "eval_return_mean", "eval_return_std"}


def test_eval_of_the_final_policy_repeats_the_run_s_own(trained: Path) -> None:
    said = pgrun("eval", "run", "--episodes", "5", "--json", cwd=trained)
    own = json.loads((trained / "run" / "result.json").read_text())
    assert json.loads(said.out)["eval_return_mean"] == own["eval_return_mean"]


def test_torn_and_foreign_checkpoints_are_refused(trained: Path, tmp_path: Path) -> None:
    source = (trained / "run" / "checkpoints" / "latest.pt").resolve()
    torn = tmp_path / "torn.pt"
    torn.write_bytes(source.read_bytes()[:-100])
    said = pgrun_inside("eval", "run", "--checkpoint", str(torn), cwd=trained)
    assert said.code == 2
    assert "torn" in said.line
    copy = shutil.copytree(trained / "run", tmp_path / "copy", symlinks=True)
    (copy / "checkpoints" / source.name).write_bytes(torn.read_bytes())
    assert pgrun_inside("eval", "copy", cwd=tmp_path).line.endswith("; --checkpoint best is whole")
    other = tmp_path / "other"
    assert pgrun_inside("network.hidden=[8]", "total_steps=500", "hydra.run.dir=other", cwd=tmp_path).code == 0
    said = pgrun_inside("eval", str(other), "--checkpoint", str(source), cwd=trained)
    assert said.code == 2
    assert "another network" in said.line


def test_hydra_s_own_flags(tmp_path: Path) -> None:
    said = pgrun("--cfg", "job", "algo=sac", "env=pendulum", cwd=tmp_path)
    assert said.code == 0
    assert "pgrun.algos.sac.SAC" in said.out
    assert pgrun("--info", "searchpath", cwd=tmp_path).code == 0
    said = pgrun("-sc", "install=bash", cwd=tmp_path)
    assert said.code == 0
    assert "COMP_LINE" in said.out
    said = pgrun("-sc", "query=bash", cwd=tmp_path, COMP_LINE="pgrun algo=", COMP_POINT="11")
    assert "algo=ppo" in said.out
    assert list(tmp_path.iterdir()) == []


def test_two_words_that_argparse_refuses() -> None:
    for arguments in (["eval"], ["eval", "x", "--episodes", "0"], ["list", "things"], ["resume"]):
        assert main(arguments) == 2


def test_a_terminal_gets_a_live_bar(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))  # rows, columns
    process = subprocess.Popen(
        [sys.executable, "-m", "pgrun", "total_steps=6000", "hydra.run.dir=run", "eval.final_episodes=2"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # the other end was closed
            break
        if not chunk:
            break
        seen += chunk
    assert process.wait() == 0
    text = seen.decode()
    assert "step/s" in text
    assert "return" in text
    assert "\r" in text


def test_small_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pgrun"])  # a test runner's own flags are not pgrun's
    register_resolvers(folders := FreeFolders())
    config = OmegaConf.create({"dir": "${free_dir:runs/a}"})
    assert config.dir == "runs/a"  # composing names it
    assert not Path("runs").exists()
    with folders.claiming():
        assert config.dir == "runs/a"
    assert folders("runs/a") == "runs/a"  # the same run asks again
    assert Path("runs/a").is_dir()
    another = FreeFolders()
    with another.claiming():
        assert another("runs/a") == "runs/a_2"  # another run of the same second
    assert whole_numbers("total_steps=1e6") == "total_steps=1000000"
    assert whole_numbers("total_steps=1e5,2.5e5") == "total_steps=100000,250000"
    assert whole_numbers("optimizer.lr=3e-4") == "optimizer.lr=3e-4"
    assert whole_numbers("algo.gamma=0.9") == "algo.gamma=0.9"
    assert whole_numbers("name=run1e5x") == "name=run1e5x"
