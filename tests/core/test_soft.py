"""Soft values against integrals and sums that are computed otherwise."""

import math

import pytest
import torch
from torch.testing import assert_close

from pgrun.core import soft
from pgrun.core.change_of_variables import push_forward
from pgrun.nn.distributions import TanhGaussian

F64 = torch.float64


def q_of(a):
    """Two unequal bumps and a slope, over [−1, 1]."""
    return 2.0 * (-8.0 * (a - 0.6).square()).exp() + (-20.0 * (a + 0.5).square()).exp() + 0.3 * a


def integral(alpha):
    """α log ∫ exp(Q/α) da by trapezia."""
    a = torch.linspace(-1.0, 1.0, 20_001, dtype=F64)
    return alpha * float(torch.trapezoid((q_of(a) / alpha).exp(), a).log())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("proposal", ["uniform", "squashed"])
def test_importance_sampling_gives_the_integral(alpha, proposal):
    """Whatever draws the actions, if its density is known; 40 estimates of 20,000 draws each."""
    torch.manual_seed(0)
    n, m = 20_000, 40
    if proposal == "uniform":
        a, log_q = torch.rand(n, m, dtype=F64) * 2.0 - 1.0, -math.log(2.0)
    else:
        zero = torch.zeros(n, m, 1, dtype=F64)
        pi = TanhGaussian(zero + 0.3, zero + 0.2)
        a, log_q = pi.rsample(torch.randn(n, m, 1, dtype=F64))
        a = a.squeeze(-1)
    found = soft.sampled_value(q_of(a), log_q, alpha)
    assert found.shape == (m,)
    error = float(found.std() / math.sqrt(m))
    assert abs(float(found.mean()) - integral(alpha)) < 4.0 * error + 1e-3 * alpha
    assert error < 0.01 * alpha
    # taken for draws of the uniform density, those of another give another value
    if proposal == "squashed" and alpha < 1.0:
        wrong = soft.sampled_value(q_of(a), -math.log(2.0), alpha)
        assert abs(float(wrong.mean()) - integral(alpha)) > 0.02 * alpha


def test_one_draw_is_its_q_and_the_log_volume():
    q = torch.tensor([[1.0, -2.0]])
    assert_close(soft.sampled_value(q, -math.log(4.0), 0.5), q[0] + 0.5 * math.log(4.0))


def test_values_too_large_for_exp():
    q = torch.tensor([[1000.0], [999.0]])
    assert soft.sampled_value(q, 0.0, 0.1).item() == pytest.approx(1000.0 - 0.1 * math.log(2.0), abs=1e-3)
    assert soft.exact_value(q.T, 0.1).item() == pytest.approx(1000.0, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
def test_the_exact_value_is_the_sum_written_out(alpha):
    q = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    expect = [alpha * math.log(sum(math.exp(x / alpha) for x in row)) for row in q.tolist()]
    assert_close(soft.exact_value(q, alpha), torch.tensor(expect, dtype=F64))


def test_between_the_maximum_and_the_entropy():
    q = torch.tensor([[1.0, 3.0, 2.0]])
    assert soft.exact_value(q, 1e-3).item() == pytest.approx(3.0, abs=1e-4)
    assert soft.exact_value(torch.zeros(1, 5), 2.0).item() == pytest.approx(2.0 * math.log(5.0), abs=1e-6)


def test_a_policys_value_is_the_expectation_written_out():
    g = torch.Generator().manual_seed(1)
    q, logits, alpha = torch.randn(4, 3, generator=g, dtype=F64), torch.randn(4, 3, generator=g, dtype=F64), 0.7
    expect = []
    for row, scores in zip(q.tolist(), logits.tolist(), strict=True):
        z = sum(math.exp(s) for s in scores)
        p = [math.exp(s) / z for s in scores]
        expect.append(sum(p_a * (q_a - alpha * math.log(p_a)) for p_a, q_a in zip(p, row, strict=True)))
    found = soft.policy_value(q, logits.log_softmax(-1), alpha)
    assert_close(found, torch.tensor(expect, dtype=F64))
    assert bool((found < soft.exact_value(q, alpha)).all())
    assert_close(soft.policy_value(q, (q / alpha).log_softmax(-1), alpha), soft.exact_value(q, alpha))


def test_actions_that_are_forbidden_count_nowhere():
    q = torch.tensor([[1.0, 2.0, -1e9]])
    assert_close(soft.exact_value(q, 0.5), soft.exact_value(q[:, :2], 0.5))
    logits = torch.tensor([[0.3, -0.2, -1e9]], requires_grad=True)
    value = soft.policy_value(q, logits.log_softmax(-1), 0.5)
    assert_close(value, soft.policy_value(q[:, :2], logits[:, :2].log_softmax(-1), 0.5))
    (grad,) = torch.autograd.grad(value.sum(), logits)
    assert grad[0, 2] == 0.0
    assert bool(grad.isfinite().all())


# ---------------------------------------------------------------- a quadratic Q, whose integral is known

CURVE, PEAK, ALPHA = 3.0, 0.4, 0.5


def quadratic(a):
    """Q(a) = −½ c (a − m)²."""
    return -0.5 * CURVE * (a - PEAK).square()


def closed():
    """α log ∫_{−1}^{1} exp(Q/α) da = α log [σ √(2π) (Φ((1 − m)/σ) − Φ((−1 − m)/σ))] with σ² = α/c."""
    sigma = math.sqrt(ALPHA / CURVE)
    normal = torch.distributions.Normal(torch.tensor(PEAK, dtype=F64), sigma)
    inside = normal.cdf(torch.tensor(1.0, dtype=F64)) - normal.cdf(torch.tensor(-1.0, dtype=F64))
    return ALPHA * math.log(sigma * math.sqrt(2.0 * math.pi) * float(inside))


def drawn(proposal, n, m):
    """Actions [n, m] and their log-densities: uniform, or tanh of a linear function of noise."""
    if proposal == "uniform":
        return torch.rand(n, m, dtype=F64) * 2.0 - 1.0, torch.full((n, m), -math.log(2.0), dtype=F64)
    a, log_q = push_forward(lambda x: (0.8 * x + 0.5).tanh(), torch.randn(n, m, 1, dtype=F64))
    return a.squeeze(-1), log_q


@pytest.mark.parametrize("proposal", ["uniform", "policy"])
def test_the_bias_shrinks_with_the_draws(proposal):
    """It is from below, about −α Var[w] / 2n for weights w of mean 1."""
    torch.manual_seed(0)
    found, m = {}, 20_000
    for n in (2, 8, 32):
        a, log_q = drawn(proposal, n, m)
        value = soft.sampled_value(quadratic(a), log_q, ALPHA)
        found[n] = (float(value.mean()) - closed(), float(value.std()) / math.sqrt(m))
    a, log_q = drawn(proposal, 200_000, 1)
    weight = (quadratic(a) / ALPHA - log_q - closed() / ALPHA).exp()
    assert float(weight.mean()) == pytest.approx(1.0, abs=0.01)
    assert found[2][0] < 2.0 * found[8][0] < 4.0 * found[32][0] < 0.0
    bias, error = found[32]
    assert bias == pytest.approx(-ALPHA * float(weight.var()) / 64.0, abs=4.0 * error + 1e-3)


def test_draws_of_the_policy_itself_give_the_value_at_once():
    """The weights exp(Q/α)/q' are all the same: one draw is enough, whatever it is."""
    _, log_q = drawn("policy", 1, 50)
    assert_close(soft.sampled_value(ALPHA * log_q + 1.7, log_q, ALPHA), torch.full((50,), 1.7, dtype=F64))
