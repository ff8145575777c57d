import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pgrun.core import losses


def test_policy_gradient_has_the_estimators_gradient():
    """∂/∂logits of −log softmax(logits)[a] Ψ is −(1[a] − p) Ψ."""
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    action, psi = torch.tensor([0, 2, 1, 1, 0]), torch.randn(5, dtype=torch.float64)
    log_prob = logits.log_softmax(-1)[torch.arange(5), action]
    losses.policy_gradient(log_prob, psi).sum().backward()
    one_hot = torch.eye(3, dtype=torch.float64)[action]
    assert_close(logits.grad, -(one_hot - logits.detach().softmax(-1)) * psi[:, None])


def test_the_clipped_surrogate_at_ratio_1_is_the_policy_gradient():
    """At π = π_old both losses have one gradient, whatever ε."""
    logits = torch.randn(50, 4, dtype=torch.float64, requires_grad=True)
    action, advantage = torch.randint(4, (50,)), torch.randn(50, dtype=torch.float64)

    def gradient(loss):
        log_prob = logits.log_softmax(-1)[torch.arange(50), action]
        return torch.autograd.grad(loss(log_prob).sum(), logits)[0]

    for epsilon in (0.05, 0.2):
        surrogate = gradient(
            lambda lp, e=epsilon: losses.clipped_surrogate(
                (lp - lp.detach()).exp(), advantage, torch.tensor(e), torch.tensor(e)
            )
        )
        assert_close(surrogate, gradient(lambda lp: losses.policy_gradient(lp, advantage)))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.1, 2.0, -2.2, -2.0),  # inside the range: −ρÂ
        (0.9, -2.0, 1.8, 2.0),
        (1.5, 2.0, -2.4, 0.0),  # has gone far enough the right way: clipped at 1.2, no more pull
        (0.5, -2.0, 1.6, 0.0),  # clipped at 0.8
        (0.5, 2.0, -1.0, -2.0),  # has gone the wrong way: the pull back stays
        (1.5, -2.0, 3.0, 2.0),
    ],
)
def test_clipped_surrogate_by_hand(ratio, advantage, loss, slope):
    rho = torch.tensor(ratio, dtype=torch.float64, requires_grad=True)
    got = losses.clipped_surrogate(rho, torch.tensor(advantage, dtype=torch.float64), torch.tensor(0.2))
    assert_close(got.item(), loss, rtol=0.0, atol=1e-6)
    assert_close(torch.autograd.grad(got, rho)[0].item(), slope)


def test_value_error():
    value = torch.tensor([1.0, -2.0], requires_grad=True)
    got = losses.value_error(value, torch.tensor([4.0, -2.0]))
    assert_close(got, torch.tensor([4.5, 0.0]))
    assert_close(torch.autograd.grad(got.sum(), value)[0], torch.tensor([-3.0, 0.0]))


def test_explained_variance_is_over_the_valid_entries():
    value, target = torch.randn(2, 30, 3, dtype=torch.float64)
    valid = torch.rand(30, 3) < 0.7
    expected = 1.0 - np.var((target - value)[valid].numpy()) / np.var(target[valid].numpy())
    value[~valid], target[~valid] = 1e5, -1e5
    assert_close(losses.explained_variance(value, target, valid).item(), expected, rtol=0.0, atol=1e-7)


def test_explained_variance_of_perfect_and_constant_values():
    target, valid = torch.randn(100, 1, dtype=torch.float64), torch.ones(100, 1, dtype=torch.bool)
    assert_close(losses.explained_variance(target, target, valid).item(), 1.0)
    assert_close(losses.explained_variance(target + 5.0, target, valid).item(), 1.0)  # a shift is no variance
    assert_close(losses.explained_variance(torch.full_like(target, 3.0), target, valid).item(), 0.0, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "outside"),
    [
        (1.25, 2.0, -2.5, 0.0),  # inside [0.8, 1.3]
        (1.5, 2.0, -2.6, 1.0),  # clipped at 1.3
        (0.75, -2.0, 1.6, 1.0),  # clipped at 0.8
        (0.75, 2.0, -1.5, 1.0),  # outside, but the wrong way: the pull stays
    ],
)
def test_a_clip_that_is_wider_above_by_hand(ratio, advantage, loss, outside):
    rho, low, high = torch.tensor(ratio), torch.tensor(0.2), torch.tensor(0.3)
    assert_close(losses.clipped_surrogate(rho, torch.tensor(advantage), low, high), torch.tensor(loss))
    assert losses.outside_clip(rho, low, high) == outside


@pytest.mark.parametrize(
    ("value", "loss", "slope"),
    [
        (1.1, 0.5 * 0.9**2, -0.9),  # within ε of the old value 1, on the way to the target 2
        (1.5, 0.5 * 0.8**2, 0.0),  # farther: as at 1.2, and no more pull
        (0.5, 0.5 * 1.5**2, -1.5),  # the wrong way: the pull stays
    ],
)
def test_the_clipped_value_error_by_hand(value, loss, slope):
    v = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    old, target = (torch.tensor(x, dtype=torch.float64) for x in (1.0, 2.0))
    for epsilon in (0.2, torch.tensor(0.2, dtype=torch.float64)):
        got = losses.clipped_value_error(v, old, target, epsilon)
        assert_close(got, torch.tensor(loss, dtype=torch.float64))
        assert_close(torch.autograd.grad(got, v)[0], torch.tensor(slope, dtype=torch.float64))
    assert_close(losses.clipped_value_error(v, old, target, math.inf), losses.value_error(v, target))
