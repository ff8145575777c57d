"""Is the environment `my_part` one that can be learnt in? Run by: python -m pytest test_my_part.py."""

import json
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import my_part
from gymnasium.utils.env_checker import check_env

CONF = Path(__file__).resolve().parent / "conf"


def test_it_keeps_to_gymnasium_s_interface() -> None:
    env = gym.make("MyPart-v0")
    assert isinstance(env.unwrapped, my_part.MyPart)
    check_env(env.unwrapped, skip_render_check=True)


def test_a_step_right_goes_right() -> None:
    env = my_part.MyPart(pace=0.5)
    before, _ = env.reset(seed=0)
    after, *_ = env.step(2)
    assert after[0] - before[0] == 0.5


def test_it_can_be_learnt(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pgrun", "--config-dir", str(CONF), "algo=ppo", "env=my_part"]
    command += ["total_steps=30000", "eval.every=null", "hydra.run.dir=run"]
    subprocess.run(command, cwd=tmp_path, check=True)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["eval_return_mean"] > 10  # of 20; chance gets about 6
