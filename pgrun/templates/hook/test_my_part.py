"""Does the hook `my_part` end a run? Run by: python -m pytest test_my_part.py."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def test_it_ends_a_run_whose_policy_is_sure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pgrun", "algo=a2c", "env=cartpole", f"hydra.run.dir={tmp_path / 'run'}"]
    command += ["hooks.my_part._target_=my_part.MyPart", "hooks.my_part.nats=1.0"]  # more than ln 2: sure at once
    subprocess.run(command, cwd=HERE, check=True)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["env_steps"] < 10_000
    assert "entropy" in str(result["stopped"])
