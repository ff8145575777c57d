"""The comparison with another program over seeds."""

import csv
import sys

import versus

FAKE = """
import json, sys
algo, env, _, seed = sys.argv[1:]
open("calls", "a").write(seed)
print("some progress")
print(json.dumps({"eval_return_mean": [10.0, 20.0, 30.0, 40.0][int(seed)], "steps_per_second": 100, "env_steps": 50}))
"""


def test_seeds_are_run_once_and_summarised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "ours.csv").write_text("row,iqm,worst\nppo-cartpole,500.0,499.0\n")
    monkeypatch.setattr(versus, "RESULTS", tmp_path / "versus.csv")
    monkeypatch.setattr(versus, "LEARNING", tmp_path / "ours.csv")
    command = [
        "versus.py",
        "--runs",
        "out",
        "--name",
        "fake",
        "--seeds",
        "4",
        f"{sys.executable} fake.py",
        "ppo/cartpole",
    ]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", command)
        assert versus.main() == 0
    assert (tmp_path / "calls").read_text() == "0123"
    (line,) = csv.DictReader((tmp_path / "versus.csv").open())
    assert (line["iqm"], line["worst"], line["pgrun"], line["pgrun_worst"]) == ("25.0", "10.0", "500.0", "499.0")
    assert float(line["low"]) < 25 < float(line["high"])
