"""Noise on actions: its moments, its memory, its schedule; and the smoothing of target actions."""

import math

import pytest
import torch
from torch.testing import assert_close

from pgrun.core.noise import ActionNoise, Gaussian, OrnsteinUhlenbeck, smoothed

CPU = torch.device("cpu")


def test_gaussian_noise_has_its_standard_deviation():
    torch.manual_seed(0)
    action = torch.full((50_000, 2), 0.3)
    noisy, memory = Gaussian(sigma=0.2, schedule="constant", final=0.0)(action, ())
    assert memory == ()
    noise = noisy - action
    assert_close(noise.mean(0), torch.zeros(2), atol=0.004, rtol=0.0)
    assert_close(noise.std(0), torch.full((2,), 0.2), atol=0.003, rtol=0.0)
    assert abs(float((noise[:, 0] * noise[:, 1]).mean())) < 0.001


@pytest.mark.parametrize(
    ("schedule", "sigmas"),
    [
        ("constant", [0.5, 0.5, 0.5]),
        ("linear", [0.5, 0.1 + 0.4 * 0.75, 0.1]),
        ("cosine", [0.5, 0.1 + 0.4 * 0.5 * (1.0 + math.cos(math.pi / 4)), 0.1]),
    ],
)
@pytest.mark.parametrize("kind", ["gaussian", "ou"])
def test_sigma_follows_its_schedule(kind, schedule, sigmas):
    scale = {"sigma": 0.5, "schedule": schedule, "final": 0.1}
    noise = Gaussian(**scale) if kind == "gaussian" else OrnsteinUhlenbeck(theta=0.15, dt=1.0, **scale)
    action, memory = torch.zeros(4, 3), noise.initial(4, 3, CPU)
    for progress, sigma in zip([0.0, 0.25, 1.0], sigmas, strict=True):
        noise.follow(progress)
        torch.manual_seed(1)
        noisy, _ = noise(action, memory)
        torch.manual_seed(1)
        assert_close(noisy, sigma * torch.randn(4, 3))


def test_ornstein_uhlenbeck_step_by_step():
    noise = OrnsteinUhlenbeck(theta=0.3, dt=0.25, sigma=0.7, schedule="constant", final=0.0)
    action, memory = torch.randn(2, 3), noise.initial(2, 3, CPU)
    assert not memory[0].any()
    torch.manual_seed(2)
    draws = [torch.randn(2, 3) for _ in range(6)]
    torch.manual_seed(2)
    x = torch.zeros(2, 3)
    for draw in draws:
        x = x - 0.3 * x * 0.25 + 0.5 * draw
        noisy, memory = noise(action, memory)
        assert_close(noisy, action + 0.7 * x)


def test_ornstein_uhlenbeck_is_stationary_with_its_known_moments():
    """Var = σ²/(θ(2 − θ dt)), and the correlation over l steps is (1 − θ dt)^l."""
    torch.manual_seed(0)
    theta, dt, sigma = 0.4, 0.5, 0.3
    noise = OrnsteinUhlenbeck(theta=theta, dt=dt, sigma=sigma, schedule="constant", final=0.0)
    action, memory, seen = torch.zeros(20_000, 1), noise.initial(20_000, 1, CPU), []
    for _ in range(46):
        noisy, memory = noise(action, memory)
        seen.append(noisy.squeeze(-1))
    x = torch.stack(seen)  # [T, B]
    want = sigma**2 / (theta * (2.0 - theta * dt))
    assert x[0].var().item() == pytest.approx(sigma**2 * dt, rel=0.04)
    assert x[[40, 45]].var(1).tolist() == pytest.approx([want, want], rel=0.04)
    assert want > 2.0 * sigma**2 * dt  # so that the two can't be mistaken for one another
    assert float((x[40] * x[45]).mean()) / want == pytest.approx((1.0 - theta * dt) ** 5, abs=0.03)
    assert x[45].mean().item() == pytest.approx(0.0, abs=0.02)


def test_no_noise():
    action = torch.randn(3, 2)
    noise = ActionNoise()
    assert noise.initial(3, 2, CPU) == ()
    noise.follow(0.5)
    assert noise(action, ()) == (action, ())
    assert noise.figures(0.5) == {}


def test_smoothing_clips_the_noise_and_stays_in_the_box():
    torch.manual_seed(0)
    action, noise = torch.empty(200, 3).uniform_(-1, 1), torch.randn(200, 3)
    edge = torch.tensor([1.0, math.inf, 1.0])
    got = smoothed(action, noise, 0.5, edge)
    want = [
        [max(-e, min(e, a + max(-0.5, min(0.5, n)))) for a, n, e in zip(*row, edge.tolist(), strict=True)]
        for row in zip(action.tolist(), noise.tolist(), strict=True)
    ]
    assert_close(got, torch.tensor(want))
    assert float(got[:, 1].abs().max()) > 1.2  # where there is no bound, there is no clip at one
