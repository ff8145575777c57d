"""Minibatches: the parts of a rollout, one by one and by their index."""

import torch
from torch.testing import assert_close

from pgrun.data.minibatches import Minibatches
from pgrun.data.types import Transition, rows


def parts_of(epochs=3, size=4, n=10):
    x, true = torch.arange(float(n)), torch.ones(n, dtype=torch.bool)
    whole = Transition(x, x, x, torch.ones(n), x, ~true, true, {})
    shares = [slice(i * size, (i + 1) * size) for i in range(n // size)]
    return Minibatches(whole, n, rows, epochs, shares, entire=size == n)


def test_each_epoch_has_each_row_at_most_once():
    found = [part.reward.tolist() for part in parts_of()]
    assert [len(part) for part in found] == [4] * 6
    for epoch in (found[:2], found[2:4], found[4:]):
        assert len({x for part in epoch for x in part}) == 8
    assert found[:2] != found[2:4]


def test_the_index_is_of_the_same_parts():
    torch.manual_seed(1)
    one_by_one = [part.reward for part in parts_of()]
    torch.manual_seed(1)
    samples = parts_of()
    index = samples.index()
    assert index.shape == (len(samples), 4)
    for part, i in zip(one_by_one, index, strict=True):
        assert_close(rows(samples.whole, i).reward, part)


def test_a_part_of_everything_is_the_rollout_as_it_is():
    samples = parts_of(epochs=2, size=10)
    assert [part is samples.whole for part in samples] == [True, True]


def test_parts_of_unlike_sizes_are_not_even():
    samples = parts_of()
    assert samples.even
    samples.shares[1] = slice(4, 9)
    assert not samples.even
