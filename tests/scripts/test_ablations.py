"""The figure of the ablations: what it sums up, and that it can be drawn."""

import csv
import sys

import ablations
import arms
import pytest
from pictures import named_lines, picture


def test_the_table_and_the_figure(tmp_path, monkeypatch):
    asked = []

    def train(place, command):
        asked.append((place.relative_to(tmp_path).as_posix(), command))
        return "trained"

    def seed(place):
        return int(place.name[1:])

    def scalars(place, tag, seconds):
        if tag == "eval/return":
            return ([10, 20], [100.0, 200.0]) if seed(place) else ([10], [50.0])  # one seed stopped early
        return [10, 20, 30], [1.0, 5.0, 3.0]

    monkeypatch.setattr(arms, "train", train)
    monkeypatch.setattr(arms, "scalars", scalars)
    monkeypatch.setattr(arms, "result", lambda place: {"eval_return_mean": 100.0 * (1 + seed(place))})
    monkeypatch.setattr(sys, "argv", ["ablations.py", "--runs", str(tmp_path), "--out", str(tmp_path)])
    noise, *panels = picture(tmp_path / "ablations.png", ablations.main).axes
    assert len({place for place, _ in asked}) == len(asked) == 3 * len(ablations.ARMS)
    assert ("optimizer/sgd_1/s2", ["pgrun", *ablations.PPO, "optimizer=sgd", "optimizer.lr=1", "seed=2"]) in asked
    table = {(row["study"], row["arm"]): row for row in csv.DictReader((tmp_path / "ablations.csv").open())}
    assert len(table) == len(ablations.ARMS)
    for (study, _), row in table.items():
        assert float(row["iqm"]) == pytest.approx(200.0)
        assert float(row["worst"]) == 100.0
        assert row["gradient_variance"] == ("3" if study == "batch" else "")
    measured, _ = named_lines(noise).values()
    assert measured == ([256, 1024, 4096, 16384], [3.0] * 4)
    drawn = [name for ax in panels for name in named_lines(ax)]
    assert drawn == [arm.name for arm in ablations.ARMS]
    for ax in panels:
        for steps, medians in named_lines(ax).values():
            assert (steps, medians) == ([0.01, 0.02], [100.0, 200.0])


def test_a_seed_that_stopped_is_worth_what_it_was(tmp_path, monkeypatch):
    curves = {0: ([10, 20, 30], [1.0, 2.0, 3.0]), 1: ([10], [7.0]), 2: ([10, 30], [0.0, 4.0])}
    monkeypatch.setattr(arms, "scalars", lambda place, tag, seconds: curves[int(place.name[1:])])
    steps, values = ablations.ARMS[0].curves(tmp_path, "eval/return")
    assert steps.tolist() == [10, 20, 30]
    assert values.tolist() == [[1.0, 2.0, 3.0], [7.0, 7.0, 7.0], [0.0, 2.0, 4.0]]
