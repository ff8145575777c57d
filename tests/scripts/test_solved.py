"""The table of seconds to solved tasks."""

import csv
import sys

import pytest
import solved

LINE = {
    **{"row": "ppo-cartpole", "threshold": "475", "seed": "1000", "solved": "1", "wall_seconds": "4.0"},
    **{"prompt_seconds": "5.0", "train_seconds": "1.5", "env_steps": "20000", "commit": "abc", "date": "2026-01-01"},
    **{"cpu": "A CPU", "cores": "2", "torch": "2.11", "load": "0.1", "command": "pgrun algo=ppo"},
}


def test_without_lines_the_page_says_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.setattr(solved, "RESULTS", tmp_path / "none.csv")
    assert solved.read(solved.RESULTS) == []
    assert "python scripts/solved.py" in solved.page([])
    solved.write(tmp_path / "empty.csv", [])
    assert solved.page(solved.read(tmp_path / "empty.csv")) == solved.page([])


def test_a_row_has_median_range_and_where_it_was_measured():
    lines = [{**LINE, "seed": str(1000 + i), "wall_seconds": x} for i, x in enumerate(("4.0", "9.0", "5.0"))]
    row = solved.page([*lines[:2], {**lines[2], "solved": "0"}]).splitlines()[2]
    assert "| ppo-cartpole to 475 | 2 of 3 | 5.0 (4.0 to 9.0) |" in row
    heads, dashes, cells = (text.count("|") for text in (*solved.page(lines).splitlines()[:2], row))
    assert heads == dashes == cells
    assert "20,000 (20,000 to 20,000)" in row
    assert "abc, 2026-01-01, A CPU, 2 cores, torch 2.11" in row


def test_only_what_is_of_this_code_machine_and_command_is_known():
    row = solved.ROWS[0]
    line = {**LINE, "command": row.command}
    assert solved.known(line, row, ("abc", "A CPU"))
    assert not solved.known(line, row, ("abd", "A CPU"))
    assert not solved.known(line, row, ("abc", "another"))
    assert not solved.known({**line, "command": "pgrun"}, row, ("abc", "A CPU"))
    assert not solved.known(None, row, ("abc", "A CPU"))


@pytest.mark.slow
def test_a_seed_is_run_once_and_timed(tmp_path, monkeypatch, capsys):
    quick = ("num_envs=2", "algo.rollout=16", "eval.every=64", "eval.episodes=2", "eval.final_episodes=1")
    monkeypatch.setattr(solved, "ROWS", [solved.Row("ppo", "cartpole", 1, 320, quick)])
    results = tmp_path / "solved.csv"
    monkeypatch.setattr(sys, "argv", ["solved.py", "--results", str(results), "--seeds", "1"])
    for _ in range(2):
        assert solved.main() == 0
    (line,) = csv.DictReader(results.open())
    assert (line["row"], line["seed"], line["solved"]) == ("ppo-cartpole", "1000", "1")
    assert 64 <= int(line["env_steps"]) < 128  # to the first evaluation
    assert 0 < float(line["train_seconds"]) < float(line["wall_seconds"]) < float(line["prompt_seconds"])
    assert capsys.readouterr().out.count("seed 1000: solved") == 1
