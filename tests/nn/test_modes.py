"""Layers that compute one thing in training and another in evaluation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pgrun.nn.modes import mixes_rows, named, statistics, training, two_modes


class Own(nn.Module):
    """A user's, with dropout as a function."""

    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x)


TWO = {
    "dropout": nn.Dropout(0.5),
    "of channels": nn.Dropout2d(0.5),
    "alpha": nn.AlphaDropout(0.5),
    "batch": nn.BatchNorm1d(3),
    "of the batch alone": nn.BatchNorm1d(3, track_running_stats=False),
    "instance": nn.InstanceNorm1d(3, track_running_stats=True),
    "lstm": nn.LSTM(2, 2, num_layers=2, dropout=0.1),
    "attention": nn.MultiheadAttention(2, 1, dropout=0.1),
    "rrelu": nn.RReLU(),
    "spectral": nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)),
    "spectral, by a hook": nn.utils.spectral_norm(nn.Linear(2, 2)),
    "own": Own(),
}
ONE = {
    "plain": Plain(),
    "no dropout": nn.Dropout(0.0),
    "layer": nn.LayerNorm(3),
    "group": nn.GroupNorm(1, 3),
    "instance": nn.InstanceNorm1d(3),
    "lstm": nn.LSTM(2, 2),
    "attention": nn.MultiheadAttention(2, 1),
    "activation": nn.ReLU(),
}


@pytest.mark.parametrize("name", TWO)
def test_these_have_two_modes(name):
    assert two_modes(nn.Sequential(nn.Linear(2, 2), TWO[name]))


@pytest.mark.parametrize("name", ONE)
def test_these_have_one(name):
    assert two_modes(nn.Sequential(nn.Linear(2, 2), ONE[name])) == []


def test_batch_normalisation_mixes_rows():
    assert mixes_rows(nn.BatchNorm2d(3))
    assert not mixes_rows(nn.Dropout())


def test_they_are_named_by_class_once_each():
    assert named([nn.Dropout(), Own(), nn.Dropout()]) == "Dropout, Own"


def test_only_these_are_in_training_mode_and_only_in_the_block():
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).eval()
    with training(two_modes(net)):
        assert [m.training for m in net] == [True, True]
        assert not net.training
    assert not any(m.training for m in net.modules())


def test_a_copys_statistics_are_paired_with_those_that_they_follow():
    mine, theirs = (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2))
    pairs = statistics(mine, theirs)
    assert [a is b for a, b in zip([a for a, _ in pairs], [mine[1].running_mean, mine[1].running_var], strict=True)]
    assert all(torch.equal(a, b) and a is not b for a, b in pairs)
    assert len(pairs) == 2  # not the count of batches
