"""Gumbel-softmax samples: their distribution, and the gradient that passes through them."""

import pytest
import torch
from scipy import stats

from pgrun.core.gumbel import gumbel_like, gumbel_softmax, one_hot_max


def test_noise_is_gumbels():
    noise = gumbel_like(torch.empty(20_000))
    assert stats.kstest(noise.numpy(), "gumbel_r").pvalue > 1e-3
    assert stats.kstest(noise.numpy(), "norm").pvalue < 1e-9  # the test can fail


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_samples_have_the_softmaxs_probabilities(temperature):
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0])
    noise = gumbel_like(logits.expand(40_000, 4))
    y = gumbel_softmax(logits.expand(40_000, 4), noise, temperature)
    counts = y.round().sum(0)
    expected = logits.softmax(0) * 40_000
    assert stats.chisquare(counts.numpy(), expected.numpy(), sum_check=False).pvalue > 1e-3
    flat = torch.full((4,), 10_000.0)
    assert stats.chisquare(counts.numpy(), flat.numpy()).pvalue < 1e-9


def test_a_sample_is_one_hot():
    y = gumbel_softmax(torch.randn(50, 6), torch.randn(50, 6), 0.7)
    torch.testing.assert_close(y, one_hot_max(y))
    assert torch.equal(one_hot_max(y).sum(-1), torch.ones(50))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_gradient_is_the_relaxations(temperature):
    logits, noise, w = torch.randn(7, 3, requires_grad=True), torch.randn(7, 3), torch.randn(7, 3)
    (gumbel_softmax(logits, noise, temperature) * w).sum().backward()
    for row in range(7):  # ∂y_j/∂z_k = y_j (1[j = k] − y_k) / τ
        y = ((logits[row] + noise[row]) / temperature).softmax(0).detach()
        jacobian = (torch.diag(y) - torch.outer(y, y)) / temperature
        torch.testing.assert_close(logits.grad[row], jacobian @ w[row])
