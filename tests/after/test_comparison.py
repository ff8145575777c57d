"""Comparing two runs, or two sets of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_folders import run_folder
from shell import pgrun_inside

pytest.importorskip("scipy")

from pgrun.after.comparison import compare
from pgrun.after.records import read_runs


def test_two_sets_of_runs(tmp_path: Path) -> None:
    for seed in range(5):
        run_folder(tmp_path / "a" / str(seed), seed=seed, score=100.0 + seed, versions={"torch": "2.11"})
        config = {"algo.gamma": 0.9, "algo.clip": 0.2}
        run_folder(tmp_path / "b" / str(seed), seed=seed, score=110.0 + seed, config=config, versions={"torch": "2.12"})
    found = compare(read_runs(tmp_path / "a"), read_runs(tmp_path / "b"))
    named = {each.name: (each.first, each.second) for each in found.differences["config"]}
    assert named == {"algo.gamma": ("0.99", "0.9"), "algo.clip": ("(not set)", "0.2")}
    assert [each.first for each in found.differences["versions"]] == ["2.11"]
    assert found.unknown == ("code", "machine")
    (outcome,) = found.outcomes
    assert outcome.difference.value == pytest.approx(10.0)
    assert outcome.difference.low is not None
    assert 6.0 < outcome.difference.low < 10.0
    assert outcome.improvement.value == 1.0
    assert outcome.over == "seeds"


def test_single_runs_are_compared_over_episodes_and_provenance_is_read(tmp_path: Path) -> None:
    for name, score, cpu in (("a", 10.0, "old"), ("b", 14.0, "new")):
        folder = run_folder(tmp_path / name, score=score, eval_return_std=3.0, eval_episodes=10)
        session = {"versions": {"torch": "2"}, "code": {"commit": "abc"}, "machine": {"cpu": cpu}}
        (folder / "provenance.json").write_text(json.dumps({"sessions": [session]}))
    found = compare(read_runs(tmp_path / "a"), read_runs(tmp_path / "b"))
    assert [(each.name, each.first, each.second) for each in found.differences["machine"]] == [("cpu", "old", "new")]
    assert found.same == ("config", "versions", "code")
    (outcome,) = found.outcomes
    assert outcome.over == "evaluation episodes"
    low, high = outcome.difference[1:]
    assert low is not None
    assert high is not None
    assert (low + high) / 2 == pytest.approx(4.0)
    assert high - low == pytest.approx(2 * 2.101 * (2 * 9 / 9) ** 0.5, rel=1e-3)


def test_other_environments_and_missing_results_are_said(tmp_path: Path) -> None:
    run_folder(tmp_path / "a" / "0")
    run_folder(tmp_path / "b" / "0", env="acrobot", env_id="Acrobot-v1")
    run_folder(tmp_path / "b" / "1", status="diverged", score=None)
    found = compare(read_runs(tmp_path / "a"), read_runs(tmp_path / "b"))
    assert found.outcomes == ()
    assert set(found.apart) == {"CartPole-v1: B has no run with a result", "Acrobot-v1: only B has runs there"}


def test_the_command(tmp_path: Path) -> None:
    run_folder(tmp_path / "a" / "0", seed=0, score=1.0)
    run_folder(tmp_path / "a" / "1", seed=1, score=2.0)
    run_folder(tmp_path / "b", algo="a2c", score=3.0)
    done = pgrun_inside("compare", "a", "b", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "ppo   ->  a2c" in done.out
    assert "no interval: a side has a single run" in done.out
    assert json.loads(pgrun_inside("compare", "a", "b", "--json", cwd=tmp_path).out)["outcomes"]
    assert "have runs in common" in pgrun_inside("compare", "a", "a/0", cwd=tmp_path).line
    assert "doesn't exist" in pgrun_inside("compare", "a", "c", cwd=tmp_path).line


def test_sides_are_chosen_by_conditions(tmp_path: Path) -> None:
    for seed in range(4):
        algo, rate = ("ppo", 1e-3) if seed < 2 else ("a2c", 0.5)
        run_folder(tmp_path / "s" / str(seed), algo=algo, seed=seed, score=float(seed), config={"optimizer.lr": rate})
    said = pgrun_inside("compare", "s", "--a", "algo=ppo", "--b", "algo=a2c", "--json", cwd=tmp_path)
    found = json.loads(said.out)
    assert [found["outcomes"][0][side][1] for side in ("first", "second")] == [2, 2]
    assert {"name": "optimizer.lr", "first": 0.001, "second": 0.5} in found["differences"]["config"]
    said = pgrun_inside("compare", "s/0,s/1", "s/2,s/3", cwd=tmp_path)
    assert said.out.startswith("A  s/0,s/1 (2 runs)\nB  s/2,s/3 (2 runs)")
    for words, why in (
        (("s", "--a", "algo=ppo"), "--b is missing"),
        (("s", "--a", "algo=ppo", "--b", "algo=sac"), "--b algo=sac: this holds for none of 4 runs"),
        (("s", "--a", "algo=ppo", "--b", "seed<3"), "algo=ppo and seed<3 have runs in common"),
        (("s", "--a", "algo==ppo", "--b", "seed<3"), "--a algo==ppo: write algo=ppo"),
        (("s/0", "s/1", "s/2"), "give A and B"),
    ):
        said = pgrun_inside("compare", *words, cwd=tmp_path)
        assert said.code == 2
        assert why in said.line


def test_links_are_not_followed(tmp_path: Path) -> None:
    run_folder(tmp_path / "runs" / "0")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "0").symlink_to(tmp_path / "runs" / "0")
    said = pgrun_inside("compare", "links", "runs", cwd=tmp_path)
    assert said.code == 2
    assert "links within are not followed" in said.line
