"""Kronecker factors against loops and dense matrices, in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from pgrun.core import kronecker

DOUBLE = {"dtype": torch.float64}


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


def covariance(n, rank, seed=0):
    x = randn(rank, n, seed=seed)
    return x.T @ x / rank


def test_the_second_moment_is_the_weighted_mean_of_outer_products():
    x, weight = randn(5, 3), torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0], **DOUBLE)
    expect = sum(torch.outer(x[m], x[m]) for m in (0, 2, 3)) / 3
    assert_close(kronecker.second_moment(x, weight), expect)


def test_the_second_moment_of_nothing_is_zero():
    assert kronecker.second_moment(randn(4, 3), torch.zeros(4, **DOUBLE)).eq(0).all()


def test_the_one_behind_a_row_meets_the_bias():
    x, weight, bias = randn(5, 3), randn(2, 3, seed=1), randn(2, seed=2)
    both = torch.cat([weight, bias.unsqueeze(-1)], -1)
    assert_close(kronecker.homogeneous(x) @ both.T, F.linear(x, weight, bias))


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2)])
def test_a_convolution_multiplies_its_patches(stride, padding, dilation):
    x, weight = randn(2, 3, 7, 6), randn(4, 3, 3, 2, seed=1)
    out = F.conv2d(x, weight, None, stride, padding, dilation)  # [N, o, H, W]
    met = kronecker.patches(x, (3, 2), stride, padding, dilation)  # [L, N, i]
    assert_close(met @ weight.flatten(1).T, out.flatten(2).permute(2, 0, 1))


def test_eigen_puts_the_matrix_together_again_and_has_nothing_below_zero():
    matrix = covariance(6, rank=3)  # three eigenvalues are 0, and some of them come out below
    values, vectors = kronecker.eigen(matrix)
    assert values.min() >= 0
    assert_close(vectors @ values.diag() @ vectors.T, matrix)


@pytest.mark.parametrize("rank", [2, 20])
@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_the_solution_is_that_of_the_dense_matrix(damping, rank):
    a, s, gradient = covariance(4, rank), covariance(3, rank, seed=1), randn(3, 4, seed=2)
    fisher = torch.kron(s, a)  # rows first, as a weight [o, n] is flattened
    dense = torch.linalg.solve(fisher + damping * torch.eye(12, **DOUBLE), gradient.flatten())
    v, quadratic = kronecker.solve(gradient, kronecker.eigen(a), kronecker.eigen(s), damping)
    assert_close(v.flatten(), dense)
    assert_close(quadratic, dense @ fisher @ dense)
