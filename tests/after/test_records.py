"""Reading runs: of this version, of an older one, on their way, broken, and not pgrun's."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from run_folders import run_folder
from shell import pgrun_inside

import pgrun
from pgrun.after.records import read_runs
from pgrun.errors import UserError


def test_a_record_tells_what_the_run_was(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", seed=3, score=7.5, overrides=("algo.gamma=0.9", "+algo.gamma=0.8"))
    (record,) = read_runs(tmp_path)
    assert (record.algo, record.env_id, record.seed, record.return_, record.steps) == (
        "ppo",
        "CartPole-v1",
        3,
        7.5,
        4000,
    )
    assert record.changed == ("algo.gamma=0.8",)
    assert record.status == "finished"
    assert Path(record) == tmp_path / "a"
    assert pgrun.runs(tmp_path) == [record]


def test_a_run_without_an_end_was_killed(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", status="")
    assert [record.status for record in read_runs(tmp_path)] == ["killed"]


def test_broken_and_foreign_directories_are_one_remark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder(tmp_path / "good")
    (run_folder(tmp_path / "torn") / "run.json").write_text('{"algo": ')
    (run_folder(tmp_path / "half") / "result.json").write_text("[1]")
    (run_folder(tmp_path / "odd") / "run.json").write_text('{"algo": 3}')
    (tmp_path / "other" / ".hydra").mkdir(parents=True)
    (tmp_path / "other" / ".hydra" / "config.yaml").write_text("model: resnet\n")
    (tmp_path / "empty" / ".hydra").mkdir(parents=True)
    assert [record.folder.name for record in read_runs(tmp_path)] == ["good"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pgrun: left out: ")
    assert line.endswith("and 2 more")


@pytest.mark.parametrize(
    ("place", "why"), [("nowhere", "doesn't exist"), ("file", "is a file"), ("bare", "no runs in")]
)
def test_places_without_runs_are_refused(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=why):
        read_runs(tmp_path / place)


def test_without_places_it_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="in runs and multirun"):
        read_runs()
    run_folder(tmp_path / "multirun" / "sweep" / "0")
    assert len(read_runs()) == 1


def test_a_real_run_and_the_same_without_its_record(tmp_path: Path) -> None:
    """The older way of reading, from Hydra's files, comes to the same."""
    line = "algo=reinforce env=contextual_bandit total_steps=64 eval.every=32 eval.final_episodes=4 hydra.run.dir=run"
    done = pgrun_inside(*line.split(), "seed=2", "algo.gamma=0.5", cwd=tmp_path)
    assert done.code == 0, done.err
    (now,) = read_runs(tmp_path)
    (tmp_path / "run" / "run.json").unlink()
    (older,) = read_runs(tmp_path)
    assert (now.algo, now.env, now.env_id, now.seed) == (older.algo, older.env, older.env_id, older.seed)
    assert now.changed == older.changed
    assert now.choices == older.choices
    assert {key: value for key, value in older.config.items() if now.config.get(key) != value} == {}


def test_five_hundred_runs_are_read_in_no_time(tmp_path: Path) -> None:
    first = run_folder(tmp_path / "0", config={f"key{number}": number for number in range(150)})
    for number in range(1, 500):
        shutil.copytree(first, tmp_path / str(number), ignore=shutil.ignore_patterns("*.npz"))
    begin = time.process_time()
    assert len(read_runs(tmp_path)) == 500
    assert time.process_time() - begin < 2.0


def test_json_is_one_line(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", score=None)
    done = pgrun_inside("runs", str(tmp_path), "--json", cwd=tmp_path)
    (line,) = done.out.splitlines()
    assert json.loads(line)[0]["return"] is None
