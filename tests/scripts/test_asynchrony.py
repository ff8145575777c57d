"""The figure of asynchronous workers: what it sums up, and that it can be drawn."""

import csv
import sys

import arms
import asynchrony
import pytest
from pictures import named_lines, picture
from recipes import sampled
from running import compose


@pytest.mark.parametrize("arm", sampled(asynchrony.ARMS, 4))
def test_its_commands_compose(arm):
    config = compose(*arm.with_seed(1000))
    assert config.seed == 1000
    assert config.eval.every is None  # or evaluations would count as seconds of training


def test_the_table_and_the_figure(tmp_path, monkeypatch):
    asked = []

    def train(place, command):
        asked.append((place.relative_to(tmp_path).as_posix(), command))
        return "trained"

    def scalars(place, tag, seconds):
        assert tag == "train/return"
        return ([0.0, 1.0, 2.0, 5.0] if seconds else [1_000, 2_000, 3_000, 4_000]), [20.0, 40.0, 60.0, 100.0]

    monkeypatch.setattr(arms, "train", train)
    monkeypatch.setattr(arms, "scalars", scalars)
    found = {"eval_return_mean": 300.0, "train_seconds": 7.0}
    monkeypatch.setattr(arms, "result", lambda place: found)
    monkeypatch.setattr(asynchrony, "result", lambda place: found)
    monkeypatch.setattr(sys, "argv", ["asynchrony.py", "--runs", str(tmp_path), "--out", str(tmp_path)])
    axes = picture(tmp_path / "asynchrony.png", asynchrony.main).axes
    assert len({place for place, _ in asked}) == len(asked) == 5 * len(asynchrony.ARMS)
    table = list(csv.DictReader((tmp_path / "asynchrony.csv").open()))
    assert [line["arm"] for line in table] == [arm.name for arm in asynchrony.ARMS]
    for line in table:
        assert (line["iqm"], line["second_half"], line["seconds"]) == ("300.0", "80.0", "7.0")
        assert line["jumps"] == "0.0"  # one step there, so no spread
    for ax, xs in zip(axes, ([1, 2, 3, 4], [0, 1, 2, 5], [1, 2, 3, 4], [1, 2, 3, 4]), strict=True):
        for drawn, values in named_lines(ax).values():
            assert (drawn, values) == (xs, [20.0, 40.0, 60.0, 100.0])
