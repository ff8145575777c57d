"""Two gradients of E[f(a)], a ~ N(μ, σ): by the score and through the sample. Quadrature makes both exact."""

import math

import numpy as np
import pytest
import torch
from exact import hotelling
from torch.testing import assert_close

from pgrun.nn.distributions import Gaussian, TanhGaussian

POINTS, WEIGHTS = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(80))
WEIGHTS = WEIGHTS / WEIGHTS.sum()  # of ε ~ N(0, 1)
MU, LOG_STD = 0.4, math.log(0.7)


def per_sample(function, noise):
    """∇ of each row of a loss of (μ, log σ, ε), [n, 2]."""

    def gradient(eps):
        return torch.stack(torch.func.grad(function, argnums=(0, 1))(*parameters, eps))

    parameters = torch.tensor(MU, dtype=torch.float64), torch.tensor(LOG_STD, dtype=torch.float64)
    return torch.vmap(gradient)(noise)


def score_function(f, squash=False):
    """f(a) ∇ log π(a)."""

    def loss(mu, log_std, eps):
        mean, log_scale = mu.reshape(1), log_std.reshape(1)
        pi = (TanhGaussian if squash else Gaussian)(mean, log_scale)
        u = (mean + log_scale.exp() * eps).detach()
        a = u.tanh() if squash else u
        return pi.log_prob(a) * f(a.squeeze(-1)).detach()

    return loss


def pathwise(f, squash=False):
    """∇ f(μ + σε)."""

    def loss(mu, log_std, eps):
        if squash:
            return f(TanhGaussian(mu.reshape(1), log_std.reshape(1)).rsample(eps.reshape(1))[0].squeeze(-1))
        return f(mu + log_std.exp() * eps)

    return loss


def exact(estimator):
    """Mean [2] and variance [2] of an estimator by quadrature over ε."""
    each = per_sample(estimator, POINTS)
    mean = WEIGHTS @ each
    return mean, WEIGHTS @ (each - mean).square()


def square(a):
    return -((a - 2.0) ** 2)


def wave(a):
    return torch.sin(6.0 * a)


def test_both_are_the_gradient_of_the_mean():
    sigma = math.exp(LOG_STD)
    truth = torch.tensor([-2.0 * (MU - 2.0), -2.0 * sigma**2], dtype=torch.float64)  # of −(μ − 2)² − σ²
    for estimator in (score_function(square), pathwise(square)):
        assert_close(exact(estimator)[0], truth, rtol=0.0, atol=1e-10)
    damped = math.exp(-18.0 * sigma**2)  # E[sin 6a] = sin(6μ) e^{−18σ²}
    truth = (
        torch.tensor([6.0 * math.cos(6.0 * MU), -36.0 * sigma**2 * math.sin(6.0 * MU)], dtype=torch.float64) * damped
    )
    for estimator in (score_function(wave), pathwise(wave)):
        assert_close(exact(estimator)[0], truth, rtol=0.0, atol=1e-9)


def test_the_pathwise_variance_is_the_smaller_one_where_f_is_smooth():
    """For the square and μ: Var = 4σ², against E[f² ε²]/σ² − (∇μ)² of the score function."""
    sigma = math.exp(LOG_STD)
    through, score = exact(pathwise(square))[1], exact(score_function(square))[1]
    assert through[0].item() == pytest.approx(4.0 * sigma**2)
    d = MU - 2.0
    fourth = d**4 + 18.0 * d**2 * sigma**2 + 15.0 * sigma**4  # E[(d + σε)⁴ ε²]
    assert score[0].item() == pytest.approx(fourth / sigma**2 - 4.0 * d**2)
    assert (score > 4.0 * through).all()


def test_the_pathwise_variance_is_the_larger_one_where_f_is_rough():
    through, score = exact(pathwise(wave))[1], exact(score_function(wave))[1]
    assert through[0] > 4.0 * score[0]


def test_a_baseline_lowers_the_score_functions_variance_and_leaves_its_mean():
    def less(a):
        return square(a) - baseline

    baseline = float(WEIGHTS @ square(MU + math.exp(LOG_STD) * POINTS))
    raw, lower = exact(score_function(square)), exact(score_function(less))
    assert_close(lower[0], raw[0], rtol=0.0, atol=1e-10)
    assert (lower[1] < 0.7 * raw[1]).all()


def test_through_a_squashed_sample_they_agree():
    """Exactly, by quadrature; and so do draws, which find out a noise that is held too small."""
    score, through = (exact(form(square, squash=True)) for form in (score_function, pathwise))
    assert_close(score[0], through[0], rtol=0.0, atol=1e-6)
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    each = per_sample(score_function(lambda a: square(a) + 3.0, squash=True), noise)  # with a baseline
    zero = torch.zeros(2, dtype=torch.float64)
    assert hotelling(each - per_sample(pathwise(square, squash=True), noise), zero) > 0.01
    assert hotelling(each - per_sample(pathwise(square, squash=True), 0.8 * noise), zero) < 1e-6
