"""Particles against loops written out, and against densities whose moments are known."""

import math

import pytest
import torch
from torch.testing import assert_close

from pgrun.core import svgd

F64 = torch.float64


def kernel(x, y, h):
    return (-(x - y).square().sum() / h).exp()


def test_the_direction_is_the_sum_written_out():
    """Each ∇κ by autograd of one pair; two batches with a bandwidth each."""
    g = torch.Generator().manual_seed(0)
    x, slope = torch.randn(2, 5, 3, 2, generator=g, dtype=F64)
    h = torch.tensor([0.7, 1.3, 4.0], dtype=F64)
    found = svgd.direction(x, slope, h)
    for b in range(3):
        for i in range(5):
            total = torch.zeros(2, dtype=F64)
            for j in range(5):
                x_j = x[j, b].clone().requires_grad_()
                kappa = kernel(x_j, x[i, b], h[b])
                (repulsion,) = torch.autograd.grad(kappa, x_j)
                total += kappa.detach() * slope[j, b] + repulsion
            assert_close(found[i, b], total / 5)


def test_the_bandwidth_is_the_median_of_squared_distances():
    x = torch.tensor([0.0, 1.0, 3.0]).reshape(3, 1, 1)  # distances 1, 2, 3
    assert_close(svgd.median_bandwidth(x), torch.tensor([4.0 / math.log(4.0)]))
    assert svgd.median_bandwidth(torch.zeros(4, 2, 3)).tolist() == pytest.approx([1e-6, 1e-6])  # no division by zero


def test_one_far_particle_climbs_and_two_that_meet_part():
    slope = torch.tensor([[[1.0]], [[1.0]]])
    far = svgd.direction(torch.tensor([[[0.0]], [[100.0]]]), slope, torch.tensor([1.0]))
    assert_close(far, torch.full((2, 1, 1), 0.5))  # its own slope, 1/n
    near = svgd.direction(torch.tensor([[[0.0]], [[0.1]]]), torch.zeros(2, 1, 1), torch.tensor([1.0]))
    assert near[0] < 0 < near[1]


def moved(x, slope, steps, lr):
    """Particles after so many steps."""
    for _ in range(steps):
        x = x + lr * svgd.direction(x, slope(x), svgd.median_bandwidth(x))
    return x


def test_particles_take_the_moments_of_a_gaussian():
    g = torch.Generator().manual_seed(1)
    mean = torch.tensor([1.0, -2.0], dtype=F64)
    covariance = torch.tensor([[0.8, 0.3], [0.3, 0.4]], dtype=F64)
    precision = covariance.inverse()
    start = torch.randn(80, 1, 2, generator=g, dtype=F64)
    x = moved(start, lambda x: -(x - mean) @ precision, 800, 0.2)[:, 0]
    assert_close(x.mean(0), mean, atol=0.01, rtol=0.0)
    assert_close(x.T.cov(), covariance, atol=0.09, rtol=0.0)  # of finitely many, a little less wide
    stuck = moved(start, lambda x: torch.zeros_like(x), 50, 0.2)[:, 0]  # without the density they only part
    assert not torch.allclose(stuck.mean(0), mean, atol=0.5)


def mixture_slope(x, width=0.5):
    """∇log of ½ N(−2, w²) + ½ N(2, w²)."""
    side = (4.0 * x / width**2).sigmoid()  # the share of the right bump
    return (-(x - 2.0) * side - (x + 2.0) * (1.0 - side)) / width**2


def test_particles_go_to_both_modes():
    g = torch.Generator().manual_seed(2)
    x = moved(torch.randn(60, 1, 1, generator=g), mixture_slope, 500, 0.1).flatten()
    right = x[x > 0]
    assert 20 <= len(right) <= 40
    assert right.mean() == pytest.approx(2.0, abs=0.1)
    assert x[x < 0].mean() == pytest.approx(-2.0, abs=0.1)
    assert right.std() == pytest.approx(0.5, abs=0.12)
    # followed uphill without the kernel, all of them end at the tops
    y = torch.randn(60, 1, 1, generator=g)
    for _ in range(300):
        y = y + 0.05 * mixture_slope(y)
    assert (y.abs() - 2.0).abs().max() < 0.01


def test_langevin_takes_the_moments_of_a_gaussian():
    g = torch.Generator().manual_seed(3)
    n, mean, std = 20_000, 1.5, 0.7
    x = torch.randn(n, 1, generator=g)
    for _ in range(300):
        x = svgd.langevin(x, -(x - mean) / std**2, 0.02, torch.randn(n, 1, generator=g))
    assert x.mean() == pytest.approx(mean, abs=0.03)
    assert x.std() == pytest.approx(std, abs=0.03)


def test_langevin_visits_both_modes():
    g = torch.Generator().manual_seed(4)
    x = torch.randn(4000, 1, generator=g)
    for _ in range(150):
        x = svgd.langevin(x, mixture_slope(x), 0.03, torch.randn(4000, 1, generator=g))
    assert (x > 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert x[x > 0].mean() == pytest.approx(2.0, abs=0.05)


def test_a_langevin_step_is_what_it_says_and_no_steep_place_throws_it_out():
    x, slope, noise = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[0.5, -0.5]])
    drift = 0.05 * slope / (1.0 + 0.05 * 5.0)
    assert_close(svgd.langevin(x, slope, 0.1, noise), x + drift + math.sqrt(0.1) * noise)
    far = svgd.langevin(x, 1e9 * slope, 0.1, torch.zeros(1, 2)) - x
    assert far.norm() == pytest.approx(1.0, abs=1e-4)
