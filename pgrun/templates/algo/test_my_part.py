"""Does the algorithm `my_part` learn? Run by: python -m pytest test_my_part.py."""

import json
import subprocess
import sys
from pathlib import Path

CONF = Path(__file__).resolve().parent / "conf"


def test_it_learns(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pgrun", "--config-dir", str(CONF), "algo=my_part", "env=cartpole"]
    command += ["total_steps=30000", "optimizer.lr=0.003", "eval.every=null", "hydra.run.dir=run"]
    subprocess.run(command, cwd=tmp_path, check=True)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["eval_return_mean"] > 40  # chance gets 20
