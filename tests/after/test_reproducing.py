"""`pgrun reproduce` runs a run again: identical, or the first evaluation where the two part, and what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from shell import pgrun_inside

import pgrun
from pgrun.after.records import read_record, read_runs, without_reproductions
from pgrun.after.reproducing import differences
from pgrun.errors import UserError

SHORT = ["eval.every=200", "eval.episodes=1", "eval.final_episodes=1", "threads=1", "network.hidden=[16,16]"]
OFF = ["memory.warmup=50", "memory.capacity=1000"]
CASES = {
    "ppo": ["algo=ppo", "env=cartpole", "total_steps=500", "algo.rollout=32", "num_envs=2", "algo.epochs=1"],
    "sac": ["algo=sac", "env=pendulum", "total_steps=600", *OFF],
    "recurrent": ["algo=ppo", "env=cartpole", "network=lstm", "network.size=8", "total_steps=800", "algo.rollout=32"],
    "maddpg": ["algo=maddpg", "env=simple_spread", "total_steps=600", *OFF],
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where no git repository is, whose state might change meanwhile."""
    monkeypatch.chdir(tmp_path)


def trained(folder: Path, case: str, *more: str) -> Path:
    pgrun.train(*CASES[case], *SHORT, *more, quiet=True, **{"hydra.run.dir": str(folder)})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_identical(case: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", case)
    found = pgrun.reproduce(run, quiet=True)
    assert found.identical
    assert found.differences == []
    assert found.compared >= 2
    assert found.folder == tmp_path / "run-reproduced"
    assert pgrun.Run(found.folder).status == "finished"
    again = pgrun.verify(found.folder)
    assert again.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_one_key_changed(case: str, tmp_path: Path) -> None:
    """The first evaluation whose parameters differ is named."""
    run = trained(tmp_path / "run", case)
    key = "algo.gamma=0.5"
    found = pgrun.reproduce(run, key, quiet=True)
    assert not found.identical
    assert found.then is not None
    first = json.loads((run / "provenance.json").read_text())["evaluations"][0]
    assert found.then == first
    assert [line.partition(" ")[2].split()[0] for line in found.differences] == ["algo.gamma"]


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    """It stops where it is told, says how the two part, and where the file was changed, too."""
    run = trained(tmp_path / "run", "ppo")
    said = pgrun_inside("reproduce", "run", "--until", "300", "--into", "again", cwd=tmp_path)
    assert said.code == 0
    assert said.out.startswith(
        "identical: run and again agree in parameters and returns at 2 evaluations, up to step 4"
    )
    config = run / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("value_coef: ", "value_coef: 1", 1))
    said = pgrun_inside("reproduce", "run", cwd=tmp_path)
    assert said.code == 1
    lines = said.out.splitlines()
    assert "run and run-reproduced part at the evaluation at step 2" in lines[0]
    assert lines[1] == "what differs between then and now:"
    assert lines[2].startswith("  config: algo.value_coef ")
    assert len(lines) == 3


def test_a_reproduction_says_what_it_is(tmp_path: Path) -> None:
    """Its record has the override and the run; where it was stopped, it is interrupted and goes on by resume."""
    run = trained(tmp_path / "run", "ppo")
    found = pgrun.reproduce(run, "algo.gamma=0.5", until=10_000, quiet=True)
    assert "step 10,000 is not reached: the run's last evaluation is at step 5" in found.notes[0]
    record = read_record(found.folder)
    assert (record.status, record.reproduces) == ("interrupted", str(run))
    assert "algo.gamma=0.5" in record.changed
    assert "algo.gamma" not in record.result["tuned"]
    pgrun.resume(found.folder, quiet=True)
    record = read_record(found.folder)
    assert (record.status, record.reproduces) == ("finished", str(run))
    assert without_reproductions(read_runs(tmp_path))[0] == [read_record(run)]


def test_refusals(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "ppo", "total_steps=300")
    with pytest.raises(UserError, match=r"has no algo.gama \(did you mean algo.gamma"):
        pgrun.reproduce(run, "algo.gama=0.5")
    with pytest.raises(UserError, match="holds a run already"):
        pgrun.reproduce(run, into=run)
    with pytest.raises(UserError, match=r"algo\.gamma"):
        pgrun.reproduce(run, "algo.gamma=7")
    with pytest.raises(UserError, match="no run directory"):
        pgrun.reproduce(tmp_path)
    (run / "provenance.json").unlink()
    with pytest.raises(UserError, match=r"has no provenance\.json, .*: it was deleted"):
        pgrun.reproduce(run)
    assert not (tmp_path / "run-reproduced").exists()


@pytest.mark.slow
def test_a_run_that_was_resumed_with_changes(tmp_path: Path) -> None:
    """The part before the change is compared, with the config of then."""
    run = trained(tmp_path / "run", "ppo")
    pgrun.resume(run, total_steps=1000, quiet=True)
    found = pgrun.reproduce(run, quiet=True)
    assert found.identical
    assert found.notes[0].startswith("it was resumed at step 5")
    assert "with other total_steps: only evaluations before that are compared" in found.notes[0]
    assert found.last_step <= 512


def test_differences() -> None:
    code = {"commit": "a" * 40, "changed": True, "diff": {"sha256": "1"}}
    then: dict[str, Any] = {
        "config": {"a": {"b": 1}},
        "sessions": [{"versions": {"torch": "1"}, "machine": {"cpu": "x"}, "code": code}],
    }
    other = {**code, "diff": {"sha256": "2"}}
    now: dict[str, Any] = {
        "config": {"a": {"b": 2}},
        "sessions": [{"versions": {"torch": "2"}, "machine": {"cpu": "y"}, "code": other}],
    }
    assert differences(then, then) == []
    lines = differences(then, now)
    assert lines[:3] == ["config: a.b 1 then, 2 now", "versions: torch 1 then, 2 now", "machine: cpu x then, y now"]
    assert lines[3].startswith("code: the same commit aaaaaaaaaaaa, with other changes")
    moved = [{**now["sessions"][0], "code": {**code, "commit": "b" * 40}}]
    assert differences(then, {**now, "sessions": moved})[3] == "code: commit aaaaaaaaaaaa then, bbbbbbbbbbbb now"
