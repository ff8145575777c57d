"""The list of runs: sorted, filtered, and as wide as the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import run_folder
from shell import pgrun_inside

from pgrun.after.listing import filtered, ordered, table
from pgrun.after.records import Record, read_runs
from pgrun.errors import UserError


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    long = "network.hidden=[256,256,256,256,256,256,256,256,256,256,256,256,256]"
    for seed, (algo, score) in enumerate([("ppo", 5.0), ("a2c", 20.0), ("ppo", None), ("ppo_kl", 100.0)]):
        config = {"algo.gamma": 0.9 + seed / 100, "algo.clip": None, "compile": seed == 1}
        overrides = ("total_steps=4000", long if seed else "x=1")
        run_folder(tmp_path / str(seed), algo=algo, seed=seed, score=score, config=config, overrides=overrides)
    return sorted(read_runs(tmp_path), key=lambda record: record.seed)


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["algo=ppo"], [0, 2]),
        (["algo=ppo*", "return>=5"], [0, 3]),
        (["algo!=ppo seed<2"], [1]),
        (["algo.gamma=0.91"], [1]),
        (["algo.gamma=.910"], [1]),
        (["algo.clip=null"], [0, 1, 2, 3]),
        (["compile=true"], [1]),
        (["return<1000"], [0, 1, 3]),
        (["status=failed"], []),
        (["env=cartpole"], [0, 1, 2, 3]),
        (["env=CartPole-v1 seed=1"], [1]),
        (["env!=cartpole"], []),
    ],
)
def test_filters(records: list[Record], words: list[str], seeds: list[int]) -> None:
    assert [record.seed for record in filtered(records, words)] == seeds


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("algo==ppo", "write algo=ppo, with one ="),
        ("algo=ppo, return>300", "separate conditions by spaces alone"),
        ("algo=ppo,return>300", "separate conditions by spaces alone"),
        ("foo=1", "Columns are algo, env, changed"),
        ("return", "write KEY=VALUE"),
        ("return>much", "much is no number"),
        ("retrun>4", "did you mean return"),
    ],
)
def test_wrong_filters(records: list[Record], word: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        filtered(records, [word])


def test_order(records: list[Record]) -> None:
    assert [record.seed for record in ordered(records, "return")] == [0, 1, 3, 2]
    assert [record.seed for record in ordered(records, "return", descending=True)] == [3, 1, 0, 2]
    assert [record.seed for record in ordered(records, "algo.gamma", descending=True)] == [3, 2, 1, 0]
    with pytest.raises(UserError, match=r"--sort algo.gama.*algo.gamma"):
        ordered(records, "algo.gama")


def test_the_key_of_an_order_has_a_column(records: list[Record]) -> None:
    lines = table(ordered(records, "algo.gamma"), 200, "algo.gamma")
    place = lines[1].index("algo.gamma")
    assert [line[place:].split()[0] for line in lines[2:]] == ["0.9", "0.91", "0.92", "0.93"]
    assert table(records, 200, "return") == table(records, 200)


@pytest.mark.parametrize("width", [90, 120, 200])
def test_the_table_fits(records: list[Record], width: int) -> None:
    lines = table(records, width)
    assert max(map(len, lines)) <= width
    assert lines[0] == "all of them: total_steps=4000"
    assert len(lines) == 6
    assert all(line.count("finished") == 1 for line in lines[2:])


def test_the_command(tmp_path: Path, records: list[Record]) -> None:
    done = pgrun_inside("runs", ".", "--filter", "algo=ppo", "--sort", "seed", "--reverse", cwd=tmp_path)
    assert [line.split()[0] for line in done.out.splitlines()[2:]] == ["ppo", "ppo"]
    assert "holds for none" in pgrun_inside("runs", ".", "--filter", "seed>9", cwd=tmp_path).line
    assert pgrun_inside("runs", "nowhere", cwd=tmp_path).code == 2
