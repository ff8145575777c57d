"""Densities of what functions make of noise, against closed forms."""

import math

import pytest
import torch
from torch.distributions import HalfNormal, MultivariateNormal, Normal
from torch.testing import assert_close

from pgrun.core.change_of_variables import log_det_tanh, push_forward

F64 = torch.float64


def test_of_a_linear_function_it_is_a_gaussians():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(3, 3, generator=g, dtype=F64), torch.randn(3, generator=g, dtype=F64)
    noise = torch.randn(4, 5, 3, generator=g, dtype=F64)
    u, log_q = push_forward(lambda x: x @ a.T + b, noise)
    assert_close(u, noise @ a.T + b)
    assert log_q.shape == (4, 5)
    assert_close(log_q, MultivariateNormal(b, a @ a.T).log_prob(u))


def test_each_row_has_a_function_of_its_own_state():
    """u = exp(s) ξ + s, whose σ is another at each state; under no_grad, as targets are computed."""
    s = torch.tensor([-1.0, 0.0, 2.0], dtype=F64).view(3, 1, 1)
    noise = torch.randn(3, 4, 1, dtype=F64)
    with torch.no_grad():
        u, log_q = push_forward(lambda x: s.exp() * x + s, noise)
    assert_close(log_q, Normal(s, s.exp()).log_prob(u).squeeze(-1))
    assert not log_q.requires_grad


def test_of_a_curved_function_it_integrates_to_one():
    """u = ξ + ξ³ / 3 and v = v_0 + u_0²: one-to-one, with a Jacobian that is not diagonal."""

    def f(x):
        u = x[..., 0] + x[..., 0] ** 3 / 3.0
        return torch.stack([u, x[..., 1] + u.square()], -1)

    line = torch.linspace(-7.0, 7.0, 1401, dtype=F64)
    noise = torch.stack([line, torch.full_like(line, 0.3)], -1)
    u, log_q = push_forward(f, noise)
    marginal = (log_q - Normal(0.0, 1.0).log_prob(noise[:, 1])).exp()
    assert float(torch.trapezoid(marginal, u[:, 0])) == pytest.approx(1.0, abs=1e-4)
    assert_close(log_q.exp(), (-noise.square().sum(-1) / 2.0).exp() / (2.0 * math.pi) / (1.0 + line.square()))


def test_where_two_draws_share_an_image_it_is_that_of_one():
    noise = torch.randn(50, 1, dtype=F64)
    u, log_q = push_forward(torch.abs, noise)
    assert_close(log_q + math.log(2.0), HalfNormal(torch.ones(1, dtype=F64)).log_prob(u).squeeze(-1))


def test_the_determinant_of_tanh_keeps_its_digits():
    """1 − tanh²u = 4 / (eᵘ + e⁻ᵘ)², also where tanh is rounded to 1."""
    u = torch.tensor([[0.0, 1.0], [-3.0, 20.0], [30.0, -30.0]], dtype=F64)
    assert_close(log_det_tanh(u), (4.0 / (u.exp() + (-u).exp()).square()).log().sum(-1))
    assert_close(log_det_tanh(u.float()).double(), log_det_tanh(u), rtol=1e-6, atol=1e-6)
