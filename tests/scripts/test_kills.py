"""The script that kills runs: it sees what is wrong, and finds nothing."""

import subprocess
import sys
from pathlib import Path

import kills as script
import pytest
import torch

from pgrun.run import checkpoint
from pgrun.run.checkpoint_files import Written

ROOT = Path(__file__).resolve().parents[2]


def test_a_difference_of_one_bit_is_seen():
    x = torch.tensor([1.0, float("nan")])
    a = {"x": [x, 2.0], "y": (1, None, float("nan"))}
    assert script.difference(a, {"x": [x.clone(), 2.0], "y": (1, None, float("nan"))}) == ""
    assert script.difference(a, {"x": [x.nextafter(x + 1), 2.0], "y": a["y"]}) == "/x/0"
    assert script.difference(a, {"x": [x.double(), 2.0], "y": a["y"]}) == "/x/0"
    assert script.difference(torch.tensor(0.0), torch.tensor(-0.0), "zero") == "zero"
    assert script.difference(a, {"x": [x, 2], "y": a["y"]}) == "/x/1"
    assert script.difference(a, {"x": [x, 2.0]}) == "/"


@pytest.mark.parametrize("damage", ["none", "another's sum", "no sum", "torn"])
def test_damage_is_seen(damage, tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    session = Written(folder, keep=2, resumed=False)
    for n in (1, 2):
        path = session.write(f"step_{n}", "latest.pt", checkpoint.dump({"n": n}))
    sums = path.with_name(f"{path.name}.sha256")
    if damage == "another's sum":
        sums.write_bytes((folder / "step_1.pt.sha256").read_bytes())
    elif damage == "no sum":
        sums.unlink()
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:-1])
    row = script.Row()
    script.look(tmp_path, row, "ppo")
    assert (row.hashes > 0, row.unloadable > 0) == (damage != "none", damage in ("another's sum", "torn"))
    assert bool(row.lines) == (damage != "none")


@pytest.mark.slow
def test_a_few_kills_and_errors_change_no_bit(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "kills.py", "--runs", "ppo", "sac", "--count", "9", "--seed", "0"]
    done = subprocess.run([*command, "--csv", "kills.csv"], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    last = (tmp_path / "kills.csv").read_text().splitlines()[-1].split(",")
    assert last[2] == "9"
    assert last[4:] == ["0"] * 4
