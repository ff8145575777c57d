"""Does pgrun find this package, once it is installed? Run by: python -m pytest."""

import json
import subprocess
import sys
from pathlib import Path

from gymnasium.utils.env_checker import check_env
from my_part.env import MyPart


def test_the_environment_keeps_to_gymnasium_s_interface() -> None:
    check_env(MyPart(), skip_render_check=True)


def test_the_algorithm_learns_in_the_environment(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pgrun", "algo=my_part", "env=my_part"]
    command += ["total_steps=40000", "optimizer.lr=0.003", "eval.every=null", "hydra.run.dir=run"]
    subprocess.run(command, cwd=tmp_path, check=True)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["eval_return_mean"] > 10  # of 20; chance gets about 6
