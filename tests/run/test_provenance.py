"""A run keeps what it was started with, of which code, and what it had learnt by each evaluation."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from running import new_run
from shell import pgrun_inside
from torch import nn

from pgrun.run import checkpoint, provenance
from pgrun.run.provenance import parameters_hash
from pgrun.system import repository

RUN = [
    *("algo=reinforce", "env=cartpole", "num_envs=2", "total_steps=300", "network.hidden=[8]", "threads=1"),
    *("eval.every=100", "eval.episodes=1", "eval.final_episodes=1", "checkpoint.every=100"),
]


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a change that is not committed, and a file that git doesn't know."""
    monkeypatch.setattr(repository, "FRESH", 1e-3)
    git(tmp_path, "init", "-q")
    (tmp_path / "mine.py").write_text("x = 1\n")
    (tmp_path / ".env").write_text("A=1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    (tmp_path / "mine.py").write_text("x = 2\napi_key = 'do-not-keep-this'\n")
    (tmp_path / ".env").write_text("A=nor-this\n")
    (tmp_path / "new.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_kept_with_its_code(repo: Path) -> None:
    assert pgrun_inside(*RUN, "hydra.run.dir=runs/a", cwd=repo).code == 0
    found = provenance.read(repo / "runs" / "a")
    (session,) = found["sessions"]
    assert found["config"]["algo"]["gamma"] == 0.99 or found["config"]["algo"]["gamma"] > 0
    assert session["command"].startswith("pgrun algo=reinforce env=cartpole")
    assert session["machine"]["cores"] >= 1
    assert session["versions"]["torch"] == torch.__version__
    assert len(session["code"]["commit"]) == 40
    assert session["code"]["diff"]["file"] == "code.diff"
    assert "new.txt" in session["code"]["unknown_to_git"]
    diff = (repo / "runs" / "a" / "code.diff").read_text()
    assert "+x = 2" in diff
    assert "do-not-keep-this" not in diff
    assert "nor-this" not in diff
    last = found["evaluations"][-1]
    assert last["final"]
    state = checkpoint.load(repo / "runs" / "a" / "checkpoints" / "latest.pt")["algorithm"]["module"]
    holder = nn.Module()
    holder.state_dict = lambda: state  # type: ignore[method-assign,assignment]
    assert last["parameters"] == parameters_hash(holder)
    assert len({entry["parameters"] for entry in found["evaluations"][:-1]}) == len(found["evaluations"]) - 1


def test_the_diff_can_be_left_out(repo: Path) -> None:
    assert pgrun_inside(*RUN, "log.diff=false", "hydra.run.dir=runs/a", cwd=repo).code == 0
    (session,) = provenance.read(repo / "runs" / "a")["sessions"]
    assert session["code"]["changed"]
    assert "diff" not in session["code"]
    assert not (repo / "runs" / "a" / "code.diff").exists()


def test_a_long_diff_is_cut(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "LONGEST", 100)
    code = repository.code_of(repo)
    assert code is not None
    assert code.facts["diff"]["cut"]
    assert len(code.diff) <= 100
    assert repository.code_of(Path("/")) is None


@pytest.mark.slow
def test_a_resumed_run_has_the_evaluations_of_one_that_was_not(tmp_path: Path) -> None:
    """Those after the checkpoint that it goes on from are made again, once."""
    new_run(tmp_path / "whole", *RUN).execute()
    run = new_run(tmp_path / "cut", *RUN)
    run.execute()
    state = checkpoint.load(sorted((tmp_path / "cut" / "checkpoints").glob("step_*.pt"))[0])
    assert len(state["provenance"]) < len(run.provenance.evaluations)
    new_run(tmp_path / "cut", *RUN, resume=state).execute()
    whole, cut = (provenance.read(tmp_path / name) for name in ("whole", "cut"))
    assert cut["evaluations"] == whole["evaluations"]
    assert [session["first_step"] for session in cut["sessions"]] == [0, state["clock"]["steps"]]
    assert json.loads((tmp_path / "cut" / "result.json").read_text())["status"] == "finished"


def test_the_hash_knows_names_types_shapes_and_bits() -> None:
    class Holder(nn.Module):
        def __init__(self, name: str, x: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer(name, x)

    x = torch.tensor([1.0, 2.0])
    variants = [("x", x), ("y", x), ("x", x.double()), ("x", x.unsqueeze(0)), ("x", torch.nextafter(x, x + 1))]
    variants += [("x", x.bfloat16()), ("x", torch.tensor(1.0))]
    assert len({parameters_hash(Holder(name, value)) for name, value in variants}) == len(variants)
    assert parameters_hash(Holder("x", x)) == parameters_hash(Holder("x", x.clone()))
