"""Gaussians with a σ of each state, and squashed ones, against torch.distributions and integrals."""

import math

import pytest
import torch
from torch import distributions as reference
from torch.testing import assert_close

from pgrun.nn.gaussian import LOG_STD_MAX, LOG_STD_MIN, Gaussian, TanhGaussian, bounded, unbounded

F64 = torch.float64


def randn(*shape):
    return torch.randn(*shape, dtype=F64)


def torchs(pi):
    """torch's own, with the coordinates as one event."""
    normal = reference.Independent(reference.Normal(pi.mean, pi.log_std.exp().expand_as(pi.mean)), 1)
    return reference.TransformedDistribution(normal, [reference.TanhTransform()])


def test_log_std_stays_between_its_bounds_and_keeps_a_gradient():
    x = torch.linspace(-15.0, 12.0, 200, dtype=F64, requires_grad=True)
    log_std = bounded(x)
    (slope,) = torch.autograd.grad(log_std.sum(), x)
    assert LOG_STD_MIN < log_std.min() < LOG_STD_MIN + 0.01
    assert LOG_STD_MAX - 0.05 < log_std.max() < LOG_STD_MAX
    assert (slope > 0.0).all()
    assert slope.max() <= 1.0
    for value in (-4.9, -1.5, 0.0, 1.9):
        assert float(bounded(torch.tensor(unbounded(value), dtype=F64))) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("of_state", [False, True])
def test_the_squashed_divergence_is_torchs(of_state):
    pi, other = (TanhGaussian(randn(7, 3), 0.4 * randn(*((7, 3) if of_state else (3,)))) for _ in range(2))
    assert_close(pi.kl(other), reference.kl_divergence(torchs(pi), torchs(other)))


def test_the_squashed_divergence_is_the_integral():
    """∫ π log π/π′ da over (−1, 1), by trapezia over u = artanh a."""
    u = torch.linspace(-9.0, 9.0, 40_001, dtype=F64).unsqueeze(-1)
    pi, other = TanhGaussian(u * 0 + 0.4, u * 0 - 0.6), TanhGaussian(u * 0 - 0.3, u * 0 + 0.2)
    log_p, log_q = torchs(pi).log_prob(u.tanh()), torchs(other).log_prob(u.tanh())
    width = (1.0 - u.tanh().square()).squeeze(-1)
    inside = u.abs().squeeze(-1) < 8.0  # beyond, torch's own has lost its digits, and π its mass
    integrand = torch.where(inside, log_p.exp() * (log_p - log_q) * width, 0.0)
    assert_close(pi.kl(other)[0], torch.trapezoid(integrand, u.squeeze(-1)), rtol=1e-6, atol=1e-6)


def exact_entropy(mean, log_std):
    """H[tanh u] = H[u] + E[log (1 − tanh²u)], by a fine rule."""
    z = torch.linspace(-12.0, 12.0, 40_001, dtype=F64)
    u = mean.unsqueeze(-1) + log_std.exp().unsqueeze(-1) * z
    weight = reference.Normal(torch.zeros((), dtype=F64), 1.0).log_prob(z).exp()
    log_det = 2.0 * (math.log(2.0) - u - torch.nn.functional.softplus(-2.0 * u))
    return log_std + 0.5 * math.log(2.0 * math.pi * math.e) + torch.trapezoid(weight * log_det, z)


@pytest.mark.parametrize(
    ("log_std", "error"), [(-5.0, 1e-5), (-2.0, 1e-5), (0.0, 1e-5), (1.0, 1e-5), (1.5, 1e-4), (2.0, 2.1e-3)]
)
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_the_squashed_entropy_is_the_integral(log_std, error, dtype):
    mean = torch.tensor([-12.0, -3.0, -0.4, 0.0, 0.1, 0.9, 2.0, 6.0], dtype=F64)
    x = torch.full_like(mean, log_std)
    mean.requires_grad_()
    x.requires_grad_()
    exact = exact_entropy(mean, x)
    pi = TanhGaussian(mean.to(dtype).unsqueeze(-1), x.to(dtype).unsqueeze(-1))
    assert_close(pi.entropy().double(), exact, rtol=1e-6, atol=error)
    if log_std <= 1.0:  # the gradient of an entropy bonus
        ours, want = (torch.autograd.grad(h.sum(), (mean, x)) for h in (pi.entropy(), exact))
        assert_close(ours, want, rtol=1e-4, atol=1e-4)


def test_the_squashed_entropy_is_a_sum_and_needs_no_draws():
    mean, log_std = randn(4, 5, 3), 0.3 * randn(3)
    state = torch.get_rng_state()
    entropy = TanhGaussian(mean, log_std).entropy()
    assert torch.equal(state, torch.get_rng_state())
    assert_close(entropy, exact_entropy(mean, log_std.expand_as(mean)).sum(-1), rtol=0.0, atol=1e-4)


def test_the_squashed_fisher_matrix_is_the_gaussians():
    """E[s sᵀ] with torch's scores s at actions of a fine grid is diag(1/σ², 2) in (μ, log σ)."""
    z = torch.linspace(-7.0, 7.0, 2001, dtype=F64)
    weight = reference.Normal(torch.zeros((), dtype=F64), 1.0).log_prob(z).exp() * (z[1] - z[0])
    mean, log_std = torch.tensor(0.3, dtype=F64), torch.tensor(-0.5, dtype=F64)
    u = mean + log_std.exp() * z
    params = torch.stack([mean, log_std]).expand(len(z), 2).clone().requires_grad_()
    pi = TanhGaussian(*params.chunk(2, -1))
    (score,) = torch.autograd.grad(pi.log_prob(u.tanh().unsqueeze(-1)).sum(), params)
    fisher = score.T @ (weight.unsqueeze(-1) * score)
    want = torch.diag(torch.stack([(-2.0 * log_std).exp(), torch.tensor(2.0, dtype=F64)]))
    assert_close(fisher, want, rtol=1e-5, atol=1e-5)
    theta = params[0].detach().requires_grad_()
    kl = pi.like(theta.detach()).kl(pi.like(theta))
    (slope,) = torch.autograd.grad(kl, theta, create_graph=True)
    hessian = torch.stack([torch.autograd.grad(s, theta, retain_graph=True)[0] for s in slope])
    assert_close(hessian, want)


@pytest.mark.parametrize("mean", [-3.0, 0.0, 12.0])
def test_an_action_beyond_the_bounds_counts_as_the_bound(mean):
    """As environments clip it; the gradient leads there."""
    at = torch.full((3, 1), mean, requires_grad=True)
    pi = TanhGaussian(at, torch.tensor([-1.0]))
    found = pi.log_prob(torch.tensor([[1.0], [1.7], [40.0]]))
    assert found.isfinite().all()
    assert torch.equal(found, found[:1].expand(3))
    (slope,) = torch.autograd.grad(found.sum(), at)
    assert slope.isfinite().all()
    assert (slope > (1.0 if mean < 9.0 else 0.0)).all()


@pytest.mark.parametrize("kind", [Gaussian, TanhGaussian])
def test_noise_makes_the_actions_whose_density_is_said(kind):
    pi, noise = kind(randn(4, 3), 0.3 * randn(3)), randn(6, 4, 3)
    action = pi.drawn(noise)
    u = pi.mean + pi.log_std.exp() * noise
    assert_close(action, u.tanh() if kind is TanhGaussian else u)
    if kind is TanhGaussian:
        assert_close(pi.rsample(noise), (action, pi.log_prob(action)))
