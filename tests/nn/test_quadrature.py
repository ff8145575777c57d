"""Sums over nodes against the moments of a Gaussian."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from pgrun.nn.quadrature import normal_nodes


def moment(degree):
    """E[ε^k]: (k − 1)!! for even k."""
    return float(math.prod(range(degree - 1, 0, -2))) if degree % 2 == 0 else 0.0


@pytest.mark.parametrize("m", [1, 2, 5, 16])
def test_one_dimension_is_exact_up_to_degree_2m_minus_1(m):
    x, w = normal_nodes(1, m)
    assert x.shape == (m, 1)
    for degree in range(min(2 * m, 12)):
        assert float(w @ x[:, 0] ** degree) == pytest.approx(moment(degree), rel=1e-10, abs=1e-6)
    assert float(w @ x[:, 0] ** (2 * m)) < (1.0 - 1e-5) * moment(2 * m)


def test_many_nodes_stay_finite():
    x, w = normal_nodes(1, 256)
    assert float(w @ x[:, 0] ** 4) == pytest.approx(3.0)


@pytest.mark.parametrize(("n", "count", "m"), [(2, 4, 4), (3, 17, 18), (6, 16, 16), (9, 5, 18)])
def test_several_dimensions_are_exact_up_to_degree_3(n, count, m):
    x, w = normal_nodes(n, count)
    assert x.shape == (m, n)
    assert_close(w.sum(), torch.tensor(1.0, dtype=torch.float64))
    for degree in (1, 2, 3):
        for axes in itertools.combinations_with_replacement(range(n), degree):
            expected = math.prod(moment(axes.count(axis)) for axis in set(axes))
            assert float(w @ x[:, axes].prod(-1)) == pytest.approx(expected, abs=1e-10)


def test_a_smooth_function_of_several_numbers():
    a = torch.tensor([0.6, -0.5, 0.9], dtype=torch.float64)
    x, w = normal_nodes(3, 256)
    assert float(w @ (x @ a).cos()) == pytest.approx(float((-0.5 * a @ a).exp()), abs=0.01)


def test_they_are_always_alike_and_draw_no_random_number():
    before = torch.get_rng_state()
    x, _ = normal_nodes(4, 16)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    assert torch.equal(normal_nodes(4, 16)[0], x)
    assert len(x.unique(dim=0)) == 16
