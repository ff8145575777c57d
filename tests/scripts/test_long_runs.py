"""Long runs: what is measured of them, and the table."""

import csv
import sys

import long_runs
import pytest

LINE = {
    **{"row": "ppo", "steps": "1000", "speed_early": "5000", "speed_midway": "5100", "speed_late": "4900"},
    **{"memory_early": "300", "memory_midway": "301", "memory_late": "302"},
    **{"commit": "abc", "cpu": "A CPU", "torch": "2.11", "command": "pgrun algo=ppo"},
}


def test_a_row_has_speed_and_memory_of_three_parts(tmp_path):
    assert "python scripts/long_runs.py" in long_runs.page(long_runs.read(tmp_path / "none.csv"))
    long_runs.write(tmp_path / "x.csv", [LINE])
    heads, dashes, row = long_runs.page(long_runs.read(tmp_path / "x.csv")).splitlines()
    assert heads.count("|") == dashes.count("|") == row.count("|")
    assert "| 1,000 | 5,000, 5,100, 4,900 | 300, 301, 302 | abc, A CPU, torch 2.11 | `pgrun algo=ppo` |" in row


@pytest.mark.slow
def test_a_run_is_watched(tmp_path, monkeypatch, capsys):
    small = long_runs.Row("small", 20_000, ("algo=a2c", "env=cartpole"))
    monkeypatch.setattr(long_runs, "ROWS", [small])
    monkeypatch.setattr(sys, "argv", ["long_runs.py", "--results", str(tmp_path / "x.csv"), "--steps", "0.5"])
    assert long_runs.main() == 0
    (line,) = csv.DictReader((tmp_path / "x.csv").open())
    assert (line["row"], line["steps"]) == ("small", "10000")
    assert line["command"] == "pgrun algo=a2c env=cartpole total_steps=10000"
    for part in long_runs.PARTS:
        assert 100 < int(line[f"speed_{part}"]) < 1_000_000
        assert 20 < int(line[f"memory_{part}"]) < 5_000
    assert "| 10,000 |" in capsys.readouterr().out
