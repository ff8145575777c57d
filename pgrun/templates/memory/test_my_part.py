"""Can be learnt from the memory `my_part`? Run by: python -m pytest test_my_part.py."""

import json
import subprocess
import sys
from pathlib import Path

CONF = Path(__file__).resolve().parent / "conf"


def test_each_rollout_is_learnt_from_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pgrun", "--config-dir", str(CONF), "memory=my_part", "algo=a2c", "env=cartpole"]
    command += ["tuned=none", "num_envs=4", "algo.rollout=5", "total_steps=100", "memory.times=2"]
    command += ["eval.every=null", "eval.final_episodes=1", "hydra.run.dir=run"]
    subprocess.run(command, cwd=tmp_path, check=True)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["updates"] >= 2 * 5  # five rollouts of 20 steps, or a sixth where some rows don't count
    assert result["updates"] % 2 == 0
