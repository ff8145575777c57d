"""The better half and its weights, worked out by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from pgrun.core.top_half import top_half, top_half_weights


@pytest.mark.parametrize(
    ("advantage", "kept"),
    [
        ([3.0, 1.0, 4.0, 2.0], [3.0, 4.0]),
        ([3.0, 1.0, 5.0, 4.0, 2.0], [3.0, 5.0, 4.0]),  # of an odd number, one more than the rest
        ([-7.0], [-7.0]),
        ([1.0, 2.0, 2.0, 2.0, 5.0, 0.0], [2.0, 2.0, 2.0, 5.0]),  # what equals the least that is kept is kept
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ],
)
def test_the_top_half(advantage, kept):
    a = torch.tensor(advantage)
    assert a[top_half(a, torch.ones(len(a), dtype=torch.bool))].tolist() == kept


def test_what_does_not_count_is_neither_kept_nor_compared_with():
    a = torch.tensor([[9.0, 1.0], [2.0, 8.0], [3.0, 4.0]])
    valid = torch.tensor([[False, True], [True, False], [True, True]])
    assert a[top_half(a, valid)].tolist() == [3.0, 4.0]


@pytest.mark.parametrize("eta", [0.5, 1.0, 3.0])
def test_the_weights(eta):
    """ψ of 2, 1 and of 3, 4, which alone are kept: e^{3/η} to e^{4/η}."""
    psi, kl = top_half_weights(torch.tensor([2.0, 4.0, 1.0, 3.0]), torch.ones(4, dtype=torch.bool), torch.tensor(eta))
    high = 1.0 / (1.0 + math.exp(-1.0 / eta))
    assert_close(psi, torch.tensor([0.0, high, 0.0, 1.0 - high]))
    assert float(kl) == pytest.approx(high * math.log(2.0 * high) + (1.0 - high) * math.log(2.0 - 2.0 * high), abs=1e-6)


def test_weights_stay_finite_where_the_temperature_is_low():
    psi, kl = top_half_weights(torch.tensor([1e3, 2e3, 0.0, -5.0]), torch.ones(4, dtype=torch.bool), torch.tensor(1e-3))
    assert psi.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert float(kl) == pytest.approx(math.log(2.0))


def test_equal_advantages_weigh_the_same():
    valid = torch.tensor([True, True, False, True])
    psi, kl = top_half_weights(torch.zeros(4), valid, torch.tensor(0.1))
    assert_close(psi, valid / 3.0)
    assert float(kl) == pytest.approx(0.0, abs=1e-6)
