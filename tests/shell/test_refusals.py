"""Bad input: one line that names what is wrong and what would be right, exit code 2, nothing written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from shell import forbid, pgrun, pgrun_inside

from pgrun.shell.cli import main

# arguments, what the line must name
REFUSALS = [
    (["algo.gama=0.9"], ["algo.gama", "did you mean algo.gamma?"]),
    (["enviroment=x"], ["did you mean env?"]),
    (["alog=ppo"], ["did you mean algo?"]),
    (["optimiser.lr=1"], ["did you mean optimizer.lr?"]),
    (["algo/advantage=nstep", "algo.advantage.lambda_=0.9"], ["algo.advantage.lambda_"]),
    (["algo=pp0"], ["algo=pp0", "did you mean ppo?", "reinforce", "sac"]),
    (["env=cartpol"], ["did you mean cartpole?"]),
    (["optimizer=adm"], ["one of adam, adamw"]),
    (["seed=abc"], ["seed=abc", "whole number"]),
    (["network.hidden=64"], ["list", "[64]"]),
    (["algo.gamma=high"], ["algo.gamma=high", "a number"]),
    (["compile=maybe"], ["choose one of", "true", "false", "auto"]),
    (["total_steps=1.5"], ["whole number"]),
    (["algo.gamma=1.5"], ["algo.gamma=1.5", "from 0 to 1"]),
    (["total_steps=-3"], ["total_steps=-3", "at least 1"]),
    (["optimizer.lr=0"], ["above 0"]),
    (["optimizer.schedule=linea"], ["one of linear"]),
    (["env.backend=foo"], ["native", "sync", "async", "envpool"]),
    (["env=gym"], ["env.id"]),
    (["algo.gamma"], ["key=value"]),
    (["algo.gamma=["], ["key=value"]),
    (["env=gym", "env.id=LunarLander-v9"], ["LunarLander-v9", "LunarLander-v3"]),
    (["env=gym", "env.id=no_such_module:Thing-v0"], ["no_such_module"]),
    (["env=pendulum", "env.backend=native"], ["sync or async"]),
    (["algo=sac", "env=pendulum", "network.normalize_obs=true"], ["single steps", "network.normalize_obs=false"]),
    (["network=cnn"], ["network=mlp"]),
    (["env=simple_speaker_listener"], ["listener_0 has Box(11,), speaker_0 has Box(3,)", "use algo=maddpg or iddpg"]),
    (["algo=maddpg"], ["MADDPG can't act in Discrete(2)", "agents=joint"]),
    (["algo=sac"], ["SAC can't act in Discrete(2)", "use algo=sac_discrete", "sql, trpo, vmpo, vpg can act there"]),
    (["algo/advantage=total_return"], ["whole episodes", "reward_to_go"]),
    (["algo/baseline=none"], ["algo/baseline=value"]),
    (["device=tpu"], ["auto, cpu, cuda"]),
    (["--config-dir", "nowhere"], ["nowhere"]),
    (["-m", "algo.gama=1,2"], ["did you mean algo.gamma?"]),
    (["-m", "algo=ppo,pp0"], ["algo=pp0"]),
    (["-m", "algo=ppo,a2c", "algo.gamma=0.9,1.4"], ["algo.gamma=1.4", "from 0 to 1"]),
    (["+sweep=[ppo,jolib]"], ["sweep=jolib is not known; did you mean joblib? sweep is one of "]),
    (["+sweep=ppo,joblib"], ["'+sweep=[ppo,joblib]'"]),
    (["resume", "nowhere"], ["nowhere is no run directory"]),
    (["eval", "nowhere"], ["nowhere is no run directory"]),
]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pgrun"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize(("arguments", "words"), REFUSALS, ids=[" ".join(a) for a, _ in REFUSALS])
def test_refusal(arguments: list[str], words: list[str], empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as stop:  # what a Hydra callback refuses
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.strip()]
    assert code == 2
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("pgrun: ")
    for word in words:
        assert word in lines[0]
    assert list(empty.iterdir()) == []


def test_a_refusal_waits_for_no_torch(tmp_path: Path) -> None:
    environment = forbid(tmp_path / "hook", "torch", "numpy")
    (work := tmp_path / "work").mkdir()
    for argument in ("algo.gama=0.9", "algo=pp0", "algo.gamma=1.5"):
        said = pgrun(argument, cwd=work, **environment)
        assert said.code == 2, said.err
        assert said.line.startswith("pgrun: ")
    assert list(work.iterdir()) == []


def test_missing_extra_names_the_command(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "mujoco.py").write_text("raise ImportError('hidden')\n")
    work = tmp_path / "work"
    work.mkdir()
    said = pgrun("env=halfcheetah", cwd=work, PYTHONPATH=str(hook))
    assert said.code == 2
    assert "pip install 'pgrun[mujoco]'" in said.line
    assert list(work.iterdir()) == []


DIVERGING = """
import gymnasium as gym
import numpy as np


class Diverging(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)
    steps = 0

    def __init__(self, what):
        self.what = what

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        bad = np.nan if self.steps > 600 else 0.0
        reward = 1.0 + bad if self.what == "reward" else 1.0
        return np.array([0.0, bad if self.what == "observation" else 0.0], np.float32), reward, False, False, {}


gym.register("Diverging-v0", entry_point=Diverging, max_episode_steps=20)
"""


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["+env.kwargs.what=observation"],
            ["observation of environment 0 is nan, coordinate [1], after a step", "step 601,"],
        ),
        (["+env.kwargs.what=reward"], ["the reward of environment 0 is nan, after a step, at environment step 601"]),
        (["+env.kwargs.what=nothing", "optimizer.lr=1e30"], ["loss/", "at environment step", "update"]),
    ],
)
def test_divergence_stops_with_the_cause(overrides: list[str], words: list[str], tmp_path: Path) -> None:
    (tmp_path / "diverging.py").write_text(DIVERGING)
    said = pgrun_inside(
        "env=gym",
        "env.id=diverging:Diverging-v0",
        "num_envs=1",
        "algo.rollout=50",
        "checkpoint.every=200",
        "eval.every=null",
        "hydra.run.dir=run",
        "total_steps=2000",
        *overrides,
        cwd=tmp_path,
    )
    assert said.code == 3, said.err
    line = said.err.strip().splitlines()[-1]
    assert "Traceback" not in said.err
    assert line.startswith("pgrun: the run diverged")
    for word in words:
        assert word in line
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "diverged"
    assert ("It came from the environment" in line) == ("optimizer.lr" not in line) == ("nothing" not in overrides[0])
    if "observation" in overrides[0]:
        assert "the last good checkpoint is step_600.pt" in line
        assert pgrun_inside("eval", "run", "--episodes", "2", cwd=tmp_path).code == 0
