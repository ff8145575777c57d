"""Sweeps: a folder a job, jobs that fail alone, Optuna; with the real launchers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.shell import pgrun

SHORT = ["total_steps=1500", "eval.every=null", "eval.final_episodes=2", "num_envs=2"]

MORTAL = """
import os
import signal

import gymnasium as gym
import numpy as np


class Mortal(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)
    steps = 0

    def __init__(self, end):
        self.end = end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 300:
            if self.end == "exit":
                raise SystemExit(7)
            if self.end == "raise":
                raise RuntimeError("out of luck")
            if self.end == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.end == "diverge":
                return np.full(2, np.nan, np.float32), 1.0, False, False, {}
        return np.zeros(2, np.float32), 1.0, self.steps % 10 == 0, False, {}


gym.register("Mortal-v0", entry_point=Mortal, max_episode_steps=100)
"""


def results(folder: Path) -> dict[str, dict]:
    """Each job's result.json by its folder's name."""
    files = sorted(folder.glob("multirun/*/*/result.json"))
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def test_a_folder_a_job(tmp_path: Path) -> None:
    said = pgrun("-m", "algo=ppo,a2c", "algo/advantage=gae,nstep", "seed=range(2)", *SHORT, cwd=tmp_path)
    assert said.code == 0, said.err
    found = results(tmp_path)
    assert len(found) == 8
    assert [name.split("_")[0] for name in found] == [str(i) for i in range(8)]
    assert all(result["status"] == "finished" for result in found.values())
    assert {(r["algo"], r["seed"]) for r in found.values()} == {(a, s) for a in ("ppo", "a2c") for s in (0, 1)}
    assert len(list(tmp_path.glob("multirun/*"))) == 1
    assert "best:" in said.out


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_jobs_fail_alone(launcher: str, tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    ends = "live,exit,raise,diverge" + (",kill" if launcher == "joblib" else "") + ",last"
    jobs = f"+env.kwargs.end={ends}"
    said = pgrun("-m", f"hydra/launcher={launcher}", "env=gym", "env.id=mortal:Mortal-v0", jobs, *SHORT, cwd=tmp_path)
    assert said.code == 1, said.err
    status = {name.split("end=")[1].split(",")[0]: r["status"] for name, r in results(tmp_path).items()}
    assert status["live"] == status["last"] == "finished"
    assert status["exit"] == status["raise"] == "failed"
    assert status["diverge"] == "diverged"
    assert "SystemExit: 7" in said.err
    assert "RuntimeError: out of luck" in said.err
    assert "the run diverged: the observation" in said.err
    if launcher == "joblib":
        assert status["kill"] == "failed"
        assert "the job's process died" in said.err
        assert "SIGKILL" in said.err
    # at once: the failed jobs' lines stand before the last job's figures, which go to another stream; their order
    # is held by the files' times
    times = {name.split("end=")[1].split(",")[0]: _written(tmp_path, name) for name in results(tmp_path)}
    if launcher == "basic":
        assert times["exit"] < times["last"]


def _written(folder: Path, name: str) -> float:
    (file,) = folder.glob(f"multirun/*/{name}/result.json")
    return file.stat().st_mtime


@pytest.mark.slow
def test_parallel_jobs_equal_sequential_ones(tmp_path: Path) -> None:
    means = {}
    for launcher in ("basic", "joblib"):
        work = tmp_path / launcher
        work.mkdir()
        assert pgrun("-m", f"hydra/launcher={launcher}", "seed=range(3)", *SHORT, cwd=work).code == 0
        means[launcher] = [(r["seed"], r["eval_return_mean"], r["env_steps"]) for r in results(work).values()]
    assert means["basic"] == means["joblib"]


def test_optuna_maximises(tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    said = pgrun(
        "-m",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=3",
        "algo.gamma=interval(0.9,0.99)",
        "env=gym",
        "env.id=mortal:Mortal-v0",
        "+env.kwargs.end=choice(live,diverge)",
        *SHORT,
        cwd=tmp_path,
    )
    found = results(tmp_path)
    assert len(found) == 3, said.err
    best = (tmp_path / "multirun").glob("*/optimization_results.yaml")
    text = next(best).read_text()
    finished = [r["eval_return_mean"] for r in found.values() if r["status"] == "finished"]
    assert f"best_value: {max(finished, default=-1e9)}" in text
    assert all(r["status"] in ("finished", "diverged") for r in found.values())


@pytest.mark.slow
def test_ready_search_space_for_ppo(tmp_path: Path) -> None:
    said = pgrun("-m", "+sweep=ppo", "hydra.sweeper.n_trials=2", *SHORT, cwd=tmp_path)
    assert said.code == 0, said.err
    text = next((tmp_path / "multirun").glob("*/optimization_results.yaml")).read_text()
    assert "best_value" in text
    assert "optimizer.lr" in text


@pytest.mark.parametrize("launcher", [pytest.param("basic", marks=pytest.mark.slow), "joblib"])
def test_ctrl_c_ends_the_sweep_and_its_processes(launcher: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pgrun", "-m", f"hydra/launcher={launcher}", "seed=range(4)"]
    process = subprocess.Popen(
        [*command, "total_steps=10_000_000", "eval.every=null"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("multirun/*/*/events*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1.0)
    group = [p for p in psutil.process_iter() if _group(p.pid) == process.pid]
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.communicate(timeout=60)
    assert process.returncode == 130
    deadline = time.monotonic() + 20
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in group) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [p for p in group if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert len(results(tmp_path)) < 4


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1
