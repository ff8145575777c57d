"""An algorithm and an environment of the user's own, in a folder of theirs, trained from the shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from guess import GUESS
from shell import pgrun_inside

ALGORITHM = '''
from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.core.returns import linear_scan
from pgrun.nn import ActorCritic
from pgrun.optim.gradient_step import GradientStep


class Mine(Algorithm):
    """REINFORCE without a baseline, on whole episodes."""

    def __init__(self, *, obs_space, action_space, network, optimizer, device, gamma):
        super().__init__(obs_space=obs_space, action_space=action_space)
        self.gamma = gamma
        self.model = ActorCritic(network, obs_space, action_space, critic=False)
        self.place(device)
        parameters = self.model.parameters()
        self.step = GradientStep(self, parameters, self.loss, optimizer, max_grad_norm=None, compile=False)

    def act(self, obs, carry, explore):
        pi = self.model.actor(obs)
        return (pi.sample() if explore else pi.mode()), carry, {}

    def update(self, batch):
        return self.step(batch)

    def loss(self, batch) -> tuple[Tensor, dict[str, Tensor]]:
        pi, _ = self.model(batch)
        goes_on = (~batch.last).float() * self.gamma
        weight = batch.valid.float()
        total = -(pi.log_prob(batch.action) * linear_scan(batch.reward, goes_on) * weight).sum() / weight.sum()
        return total, {"loss/policy": total.detach()}
'''

ENVIRONMENT = GUESS + 'gym.register("Guess-v0", Guess)\n'

ALGO_YAML = """\
# @package _global_
algo:
  _target_: mine.Mine
  _partial_: true
  gamma: 0.9

collector:
  _target_: pgrun.collect.episodes.Episodes
  _partial_: true
  episodes: ${env.num_envs}

memory:
  _target_: pgrun.memory.latest.Latest
  _partial_: true
"""

ENV_YAML = """\
defaults:
  - gym
  - _self_
id: mine_env:Guess-v0
"""

TUNED_YAML = """\
# @package _global_
num_envs: 3
algo:
  gamma: 0.5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with code and configs of the user's own."""
    (tmp_path / "mine.py").write_text(ALGORITHM)
    (tmp_path / "mine_env.py").write_text(ENVIRONMENT)
    for name, text in {"algo/mine": ALGO_YAML, "env/mine": ENV_YAML, "tuned/mine_mine": TUNED_YAML}.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def shell(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`pgrun ARGUMENTS` in this folder; like the console script, it starts without the folder in its path."""
    code = "import sys; from pgrun.shell.cli import entry; sys.path[:] = [p for p in sys.path if p]; entry()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


OWN = ("--config-dir", "conf", "algo=mine", "env=mine")


def test_own_code_trains_evaluates_and_resumes(folder):
    ran = shell(folder, *OWN, "total_steps=2000", "eval.every=null", "optimizer.lr=0.01", "hydra.run.dir=run")
    assert ran.returncode == 0, ran.stderr
    result = json.loads((folder / "run" / "result.json").read_text())
    assert (result["status"], result["algo"], result["env"]) == ("finished", "mine", "mine")
    assert 2000 <= result["env_steps"] < 2000 + 3 * 5
    assert result["env_steps"] % (3 * 5) == 0  # three environments, as tuned, of five steps
    assert result["eval_return_mean"] == 5.0  # it has learnt to choose 1

    evaluated = pgrun_inside("eval", "run", "--json", "--episodes", "4", cwd=folder)
    assert evaluated.code == 0, evaluated.err
    figures = json.loads(evaluated.out)
    assert (figures["eval_return_mean"], figures["eval_episodes"], figures["eval_length_mean"]) == (5.0, 4, 5.0)

    resumed = pgrun_inside("resume", "run", "total_steps=3000", cwd=folder)
    assert resumed.code == 0, resumed.err
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["status"] == "finished"
    assert 3000 <= result["env_steps"] < 3000 + 3 * 5


def test_own_tuned_values_arrive(folder):
    shown = pgrun_inside(*OWN, "--cfg", "job", cwd=folder)
    assert shown.code == 0, shown.err
    assert "\n  gamma: 0.5\n" in shown.out
    assert "\nnum_envs: 3\n" in shown.out


def test_own_configs_are_listed(folder):
    shown = pgrun_inside("list", "--config-dir", "conf", cwd=folder)
    assert shown.code == 0, shown.err
    assert sum(line.startswith("  mine ") for line in shown.out.splitlines()) == 2  # an algorithm, an environment
    assert "  ppo " in shown.out
    missing = pgrun_inside("list", "--config-dir", "nowhere", cwd=folder)
    assert (missing.code, missing.err) == (2, "pgrun: --config-dir nowhere is no folder\n")


@pytest.mark.parametrize("target", ["mine.Yours", "theirs.Mine"])
def test_a_class_that_is_not_there(folder, target):
    ran = pgrun_inside(*OWN, f"algo._target_={target}", "hydra.run.dir=run", cwd=folder)
    assert ran.code == 2, ran.err
    assert len(ran.err.strip().splitlines()) == 1, ran.err
    assert target in ran.err
    assert not (folder / "run").exists()
