"""A run says of itself: its first line, where result.json says it comes from, and which session took how long."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from running import new_run

from pgrun.config.paths import config_dir
from pgrun.run import checkpoint
from pgrun.run.console import duration, figures
from pgrun.run.origin import command_line, env_id, user_folder
from pgrun.shell.cli import main

SHORT = ["algo=reinforce", "num_envs=2", "total_steps=64", "eval.every=null", "eval.final_episodes=1"]


def test_a_run_and_its_second_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SHORT, "hydra.run.dir=run"]) == 0
    first = json.loads(Path("run/result.json").read_text())
    assert first["command"] == f"pgrun {' '.join(SHORT)} hydra.run.dir=run"
    assert (first["env"], first["env_id"]) == ("cartpole", "CartPole-v1")
    assert "optimizer.lr" in first["tuned"]
    assert set(first["versions"]) == {"pgrun", "python", "torch", "gymnasium", "numpy"}
    assert len(first["sessions"]) == 1
    line = Path("run/pgrun.log").read_text().splitlines()[0]
    assert line.startswith("reinforce on cartpole (CartPole-v1), into run, on cpu; tuned for reinforce on cartpole: ")
    assert main(["resume", "run", "total_steps=3e2"]) == 0
    whole = json.loads(Path("run/result.json").read_text())
    assert {key: whole[key] for key in ("command", "env_id", "tuned")} == {
        key: first[key] for key in ("command", "env_id", "tuned")
    }
    before, now = whole["sessions"]
    assert (before["first_step"], now["first_step"]) == (0, first["env_steps"])
    assert before["env_steps"] + now["env_steps"] == whole["env_steps"] >= 300
    for key in ("wall_seconds", "train_seconds", "startup_seconds"):
        assert whole[key] == pytest.approx(before[key] + now[key], abs=2e-3)
    speed = whole["env_steps"] / (before["train_seconds"] + now["train_seconds"])
    assert whole["steps_per_second"] == pytest.approx(speed, abs=0.1)
    said = capsys.readouterr().out
    assert f"{whole['env_steps']:,} steps in {duration(whole['wall_seconds'])} and 2 sessions" in said


def test_an_older_checkpoint_s_time_counts(tmp_path: Path) -> None:
    run = new_run(tmp_path / "a", *SHORT)
    run.execute()
    state = checkpoint.load(tmp_path / "a" / "checkpoints" / "latest.pt")
    del state["sessions"]
    state["wall_seconds"] = 100.0
    again = new_run(tmp_path / "b", *SHORT, "total_steps=300", resume=state)
    result = again.execute()
    assert result["wall_seconds"] > 100.0
    assert result["sessions"][0]["wall_seconds"] == 100.0
    assert result["steps_per_second"] == result["sessions"][1]["steps_per_second"]


def test_an_older_version_s_result_is_told() -> None:
    older = {"env_steps": 80, "wall_seconds": 1.25, "steps_per_second": 90.0, "eval_return_mean": None}
    assert figures(older) == "80 steps in 1.2 s (90 steps/s)"


def sources(*folders: str) -> list[dict[str, str]]:
    """Config sources as Hydra keeps them: its own, and folders, the first as the main one."""
    kept = [{"path": "hydra.conf", "schema": "pkg", "provider": "hydra"}]
    for i, folder in enumerate(folders):
        kept.append({"path": folder, "schema": "file", "provider": "command-line" if i else "main"})
    return kept


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        ([str(config_dir())], None),
        (["/elsewhere/configs"], None),  # the shipped one, of another machine
        (["/mine", str(config_dir())], "/mine"),
        ([str(config_dir()), "/mine"], "/mine"),  # as version 0.1 had them
        (["/mine", "/elsewhere/configs"], "/mine"),
    ],
)
def test_the_user_s_folder_is_not_the_shipped_one(folders: list[str], found: str | None) -> None:
    assert user_folder(OmegaConf.create({"runtime": {"config_sources": sources(*folders)}})) == found


def test_a_run_s_command_names_the_user_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "env").mkdir(parents=True)
    (tmp_path / "conf" / "env" / "pole.yaml").write_text("# A pole\ndefaults: [cartpole, _self_]\n")
    words = ["--config-dir", "conf", *SHORT, "env=pole", "hydra.run.dir=run"]
    assert main(words) == 0
    result = json.loads(Path("run/result.json").read_text())
    assert shlex.split(result["command"])[:3] == ["pgrun", "--config-dir", str(tmp_path / "conf")]


def test_a_job_s_command_makes_it_alone() -> None:
    node = OmegaConf.create(
        {
            "mode": "MULTIRUN",
            "job": {"config_name": "config"},
            "overrides": {"task": ["seed=1", "algo.x=[1,2]"], "hydra": ["hydra.mode=MULTIRUN", "hydra.sweep.dir=s"]},
            "runtime": {"config_sources": sources("/a b", str(config_dir()))},
        }
    )
    assert command_line(node) == "pgrun --config-dir '/a b' seed=1 'algo.x=[1,2]'"
    node.mode, node.overrides.hydra = "RUN", ["hydra.run.dir=r", "hydra.mode=RUN"]
    assert command_line(node) == "pgrun --config-dir '/a b' seed=1 'algo.x=[1,2]' hydra.run.dir=r"


def test_an_interpolation_stays_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["optimizer.lr=0.5", "eval.max_steps=${env.num_envs}", "hydra.run.dir=runs/${optimizer.lr}"]
    assert main([*SHORT, *typed]) == 0
    result = json.loads(Path("runs/0.5/result.json").read_text())
    assert result["command"] == f"pgrun {shlex.join([*SHORT, *typed])}"


def test_an_environment_without_an_id_is_its_class() -> None:
    assert env_id(OmegaConf.create({"world": {"_target_": "a.B"}, "_target_": "x"})) == "a.B"
    assert env_id(OmegaConf.create({"_target_": "x.Y"})) == "x.Y"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.9, "60 s"), (61, "1 min 1 s"), (605, "10 min"), (7500, "2 h 5 min")],
)
def test_times_are_read_easily(seconds: float, text: str) -> None:
    assert duration(seconds) == text
