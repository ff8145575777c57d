"""Helpers that tests of sweeps share: an environment that fails in every way, and listing what runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

SHORT = ["total_steps=1500", "eval.every=null", "eval.final_episodes=2", "num_envs=2"]
# seconds-long jobs with checkpoints on the way, and what tells two runs of one apart
LONG = ["algo=reinforce", "total_steps=8000", "checkpoint.every=500", "eval.every=3000", "eval.episodes=3"]
SAME = ("status", "seed", "env_steps", "updates", "train_return_mean", "eval_return_mean", "best_eval_return_mean")
LAUNCHERS = {
    "basic": ["-m"],
    "joblib": ["+sweep=joblib", "hydra.launcher.n_jobs=2"],
    "ray": ["+sweep=ray", "hydra.launcher.n_jobs=2"],
    "slurm": ["+sweep=slurm", "hydra.launcher.cluster=local", "hydra.launcher.n_jobs=2"],
}

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


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Each job's result.json by its folder's name."""
    files = sorted(folder.glob("multirun/*/*/result.json"), key=lambda f: int(f.parent.name.split("_")[0]))
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def figures(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return the part of the results that is the same whenever a sweep is done again."""
    return {name: tuple(result.get(key) for key in SAME) for name, result in results(folder).items()}


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """`pgrun ARGUMENTS` in a session of its own, as a terminal has it; its output goes to files."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PGRUN_TEST": str(cwd)}
    return subprocess.Popen(
        [sys.executable, "-m", "pgrun", *arguments],
        cwd=cwd,
        env=env,
        stdout=(cwd / "out").open("w"),
        stderr=(cwd / "err").open("w"),
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )


def wait_for(condition: Callable[[], Any], seconds: float = 90.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def alive(folder: Path) -> list[str]:
    """Every process, whoever its parent is by now, that descends from a command started in this folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mine = process.environ().get("PGRUN_TEST") == str(folder) and process.status() != psutil.STATUS_ZOMBIE
            if mine:
                found.append(" ".join(process.cmdline())[:100])
    return found


def assert_none_left(folder: Path, seconds: float = 45.0) -> None:
    """Nothing of a command that was started in this folder runs after a few seconds."""
    deadline = time.monotonic() + seconds
    while (left := alive(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT, *, group: bool = True) -> int:
    """Send a signal, to the whole group as Ctrl-C does or to the command alone; -> its exit code."""
    if group:
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)
    return process.wait(timeout=60)
