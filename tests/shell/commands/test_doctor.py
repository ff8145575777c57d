"""`pgrun doctor RUN` on a real run, and from Python."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from shell import forbid, pgrun, pgrun_inside

import pgrun as package

DEAD = (
    *("algo=ppo", "env=pendulum", "tuned=none", "env.max_episode_steps=20", "algo.rollout=32", "total_steps=2048"),
    *("log.every=256", "eval.every=1024", "eval.episodes=2", "eval.final_episodes=2", "optimizer.lr=1e-9"),
)


@pytest.mark.slow
def test_a_run_that_stands_still_is_named(tmp_path: Path) -> None:
    run = package.train(*DEAD, f"hydra.run.dir={tmp_path / 'run'}", quiet=True)
    diagnosis = package.doctor(run)
    named = {finding.rule: finding for finding in diagnosis.findings}
    assert "learning-rate-low" in named
    assert "optimizer.lr=3e-4" in named["learning-rate-low"].changes
    assert "optimizer.lr" not in named["learning-rate-low"].command  # its default is better than what was typed
    said = json.loads(pgrun_inside("doctor", "run", "--json", cwd=tmp_path).out)
    assert [finding["rule"] for finding in said["findings"]] == [finding.rule for finding in diagnosis.findings]


SHORT = (
    *("algo=ppo", "env=cartpole", "num_envs=2", "algo.rollout=16", "algo.minibatch=16", "algo.epochs=1"),
    *("network.hidden=[8]", "eval.every=null", "eval.final_episodes=2", "total_steps=320", "log.every=32"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps, with curves."""
    folder = tmp_path_factory.mktemp("made")
    assert pgrun_inside(*SHORT, "hydra.run.dir=run", cwd=folder).code == 0
    return folder / "run"


@pytest.fixture
def trained(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "run", symlinks=True))


def test_a_run_whose_curves_are_gone(trained: Path) -> None:
    here = trained.parent
    (trained / "curves.npz").unlink()
    assert pgrun_inside("doctor", "run", cwd=here).code == 0  # TensorBoard's files have them, too
    for path in trained.glob("events.out.tfevents.*"):
        path.unlink()
    said = pgrun_inside("doctor", "run", cwd=here)
    lost = "curves.npz and events.out.tfevents.* are missing, and it finished after 337 steps"
    assert (said.code, said.line) == (2, f"pgrun: run has lost its curves: {lost}")
    (trained / "result.json").unlink()
    said = pgrun_inside("doctor", "run", cwd=here)
    assert said.line == "pgrun: run holds no curves yet: let it run for some log.every steps"


def test_what_leads_out_of_a_run_is_not_read(trained: Path) -> None:
    (events,) = trained.glob("events.out.tfevents.*")
    events.rename(trained.parent / "elsewhere")
    events.symlink_to(trained.parent / "elsewhere")
    assert pgrun_inside("doctor", "run", cwd=trained.parent).code == 0  # which doesn't need it
    (trained / "curves.npz").unlink()
    said = pgrun_inside("doctor", "run", cwd=trained.parent)
    assert (said.code, said.line.endswith("leads out of the run directory, and is not read: copy the file there")) == (
        2,
        True,
    )


def test_a_run_without_hydra_s_files(trained: Path) -> None:
    for name in (".hydra", "checkpoints"):
        shutil.rmtree(trained / name)
    said = pgrun_inside("doctor", "run", "--json", cwd=trained.parent)
    assert (said.code, json.loads(said.out)["env"]) == (0, "cartpole")


def test_a_run_that_diverges_at_once(tmp_path: Path) -> None:
    words = [word for word in SHORT if not word.startswith("log.every")]
    assert pgrun_inside(*words, "optimizer.lr=1e30", "hydra.run.dir=run", cwd=tmp_path).code == 3
    said = pgrun_inside("doctor", "run", "--json", cwd=tmp_path)
    assert said.code == 0, said.err
    (finding,) = json.loads(said.out)["findings"]
    assert finding["rule"] == "diverged"
    assert re.fullmatch(r"it diverged at step 31 \(\S+ is (nan|inf)\), before its first point", finding["evidence"])
    assert finding["leave_out"] == "leave optimizer.lr out: 0.001 is tuned for this pair"


def test_without_probes_neither_torch_nor_tensorboard_is_imported(trained: Path) -> None:
    found = forbid(trained.parent / "none", "torch", "tensorboard")
    found["PYTHONPATH"] += f"{os.pathsep}{Path(package.__file__).parents[1]}"
    said = pgrun("doctor", "run", cwd=trained.parent, **found)
    assert (said.code, said.err) == (0, "")
    assert "ppo on cartpole, 337 steps" in said.out


def test_no_run_is_one_line(tmp_path: Path) -> None:
    said = pgrun_inside("doctor", "nowhere", cwd=tmp_path)
    assert (said.code, said.line) == (
        2,
        "pgrun: nowhere is no run directory: there is no such folder; pgrun runs lists those here",
    )
