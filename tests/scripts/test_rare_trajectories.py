"""The figure of rare episodes: what a share is, which are rare, and that it can be drawn."""

import csv
import sys

import pytest
import rare_trajectories as rare
import torch
from pictures import named_lines, picture


def test_shares_are_lengths_along_the_sum():
    gradients = torch.tensor([[3.0, 1.0], [1.0, -1.0], [0.0, 0.0]])  # the sum is (4, 0)
    assert rare.shares(gradients).tolist() == [0.75, 0.25, 0.0]


def test_the_rare_are_the_paid_or_the_best():
    returns = torch.tensor([0.0, 0.7, 0.0, 0.2])
    assert rare.is_rare(returns, None).tolist() == [False, True, False, True]
    assert rare.is_rare(returns, 0.25).tolist() == [False, True, False, False]


def test_a_batch_agrees_as_far_as_its_episodes_do():
    same = torch.tensor([[1.0, 2.0]]).expand(64, 2)
    assert rare.agreement(same, 8) == pytest.approx(1.0)
    one = torch.zeros(64, 2)
    one[5] = 1.0  # seven batches of eight have nothing
    assert rare.agreement(one, 8) == 0.0


@pytest.mark.slow
def test_the_figure_can_be_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(rare, "EPISODES", 512)
    monkeypatch.setattr(sys, "argv", ["rare_trajectories.py", "--out", str(tmp_path)])
    figure = picture(tmp_path / "rare_trajectories.png", rare.main)
    table = list(csv.DictReader((tmp_path / "rare_trajectories.csv").open()))
    assert len(table) == len(rare.WORLDS) * len(rare.BASELINES)
    for line in table:
        if (line["world"], line["baseline"]) == ("sparse plane", "none"):
            assert float(line["share"]) == float(line["share_of_squares"]) == 1.0  # the others' returns are 0
    for ax in figure.axes[:2]:
        for _, ys in named_lines(ax).values():
            assert ys[-1] == pytest.approx(1.0)
