"""Can the network `my_part` be learnt with? Run by: python -m pytest test_my_part.py."""

import json
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import my_part
import torch

CONF = Path(__file__).resolve().parent / "conf"


def test_it_encodes_any_batch() -> None:
    encoder = my_part.MyPartEncoder(gym.spaces.Box(-1.0, 1.0, (3,)), width=8, blocks=2)
    obs = torch.randn(5, 4, 3)
    assert encoder(obs).shape == (5, 4, 8)
    assert torch.allclose(encoder(obs)[2, 1], encoder(obs[2, 1]), atol=1e-6)


def test_it_can_be_learnt_with(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pgrun", "--config-dir", str(CONF), "network=my_part", "algo=ppo", "env=cartpole"]
    command += ["total_steps=20000", "eval.every=null", "eval.final_episodes=20", "hydra.run.dir=run"]
    subprocess.run(command, cwd=tmp_path, check=True)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["eval_return_mean"] > 40  # chance gets 20
