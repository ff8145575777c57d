"""Draws from exp(Q/α) against the density itself, for Qs that are known."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pgrun.core.change_of_variables import push_forward
from pgrun.nn import MLP, samplers
from pgrun.nn.samplers import Amortised, Langevin, MeanQ, Softmax, each

OBS = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
ACTION = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
NETWORK = MLP(
    hidden=[32, 32],
    activation="relu",
    init_gain=0.0,
    head_gain=0.0,
    shared=False,
    log_std_init=0.0,
    normalize_obs=False,
)
ALPHA = 0.3


class Slope(nn.Module):
    """Q(s, a) = 0.6 s a: the policy leans to the side that is seen."""

    def forward(self, obs, action):
        return (0.6 * obs * action).sum(-1).unsqueeze(0)


class TwoBumps(nn.Module):
    """Equal bumps at ±0.6."""

    def forward(self, obs, action):
        return (-30.0 * (action.abs() - 0.6).square()).exp().sum(-1).unsqueeze(0)


class Table(nn.Module):
    """Discrete actions, the same everywhere."""

    def __init__(self, *q):
        super().__init__()
        self.q = torch.tensor(q)

    def all(self, obs):
        return self.q.expand(1, len(obs), -1)

    def forward(self, obs, action):
        return self.q[action].unsqueeze(0)


def moments(q, s):
    """Mean and standard deviation of a under exp(Q/α), by trapezia."""
    a = torch.linspace(-1.0, 1.0, 4001, dtype=torch.float64)
    obs = torch.full((len(a), 1), s, dtype=torch.float64)
    p = (q(obs, a.unsqueeze(-1))[0] / ALPHA).exp()
    p = p / torch.trapezoid(p, a)
    mean = torch.trapezoid(p * a, a)
    return float(mean), float(torch.trapezoid(p * (a - mean).square(), a).sqrt())


def mass(q, low, high):
    """How much of exp(Q/α) has |a| between these, by trapezia."""
    a = torch.linspace(-1.0, 1.0, 4001, dtype=torch.float64)
    p = (q(torch.zeros(4001, 1), a.unsqueeze(-1))[0] / ALPHA).exp()
    return float(torch.trapezoid(p * (a.abs() > low) * (a.abs() < high), a) / torch.trapezoid(p, a))


def langevin():
    return Langevin(1, ALPHA, 4000, 64, steps=300, step_length=0.02)


def taught(q, updates=500):
    """A network that learnt to draw, on states in [−1, 1]."""
    torch.manual_seed(0)
    f = Amortised(NETWORK, OBS, ACTION, ALPHA, 4000, 64)
    optimizer = torch.optim.Adam(f.parameters(), lr=3e-3)
    for _ in range(updates):
        obs = torch.rand(8, 1) * 2.0 - 1.0
        noise, delta = f.transport(q, obs, 24)
        optimizer.zero_grad()
        (-(delta * f(obs, noise)).sum(-1).mean()).backward()
        optimizer.step()
    return f


def test_the_slope_is_that_of_the_density_of_u():
    """Against central differences of log p(u) = Q(tanh u)/α + log(1 − tanh²u)."""
    u, obs = torch.randn(5, 3, 1, dtype=torch.float64), torch.randn(3, 1, dtype=torch.float64)
    q, e = TwoBumps(), 1e-5

    def log_p(u):
        return each(q, obs, u.tanh()) / ALPHA + (1.0 - u.tanh().square()).log().sum(-1)

    with torch.no_grad():  # as a policy acts
        assert_close(
            langevin().slope(q, obs, u).squeeze(-1), (log_p(u + e) - log_p(u - e)) / (2 * e), rtol=1e-5, atol=1e-6
        )


def test_each_draw_meets_its_own_state():
    obs, actions = torch.randn(3, 1), torch.randn(4, 3, 1)
    assert_close(each(Slope(), obs, actions), 0.6 * (obs.unsqueeze(0) * actions).squeeze(-1))
    both = {"a": obs, "b": torch.randn(3, 2)}

    class Of(nn.Module):
        def forward(self, obs, action):
            return (obs["a"].squeeze(-1) + obs["b"].sum(-1) + action.squeeze(-1)).unsqueeze(0)

    expect = obs.squeeze(-1) + both["b"].sum(-1) + actions.squeeze(-1)
    assert_close(each(Of(), both, actions), expect)


def check_draws(policy, q):
    torch.manual_seed(1)
    with torch.no_grad():
        a = policy.sample(q, torch.tensor([[-0.9], [0.0], [0.9]]), 4000).squeeze(-1)
    for i, s in enumerate([-0.9, 0.0, 0.9]):
        mean, std = moments(q, s)
        assert a[:, i].mean() == pytest.approx(mean, abs=0.08)
        assert a[:, i].std() == pytest.approx(std, abs=0.08)


def test_chains_draw_from_the_density():
    assert moments(Slope(), 0.9)[0] > 0.4  # far from uniform
    check_draws(langevin(), Slope())
    check_draws(langevin(), TwoBumps())


def test_a_network_that_learnt_to_draw_does():
    check_draws(taught(Slope()), Slope())


@pytest.mark.parametrize("kind", ["network", "chains"])
def test_both_modes_are_drawn(kind):
    policy = taught(TwoBumps()) if kind == "network" else langevin()
    torch.manual_seed(1)
    with torch.no_grad():
        a = policy.sample(TwoBumps(), torch.zeros(1, 1), 2000).flatten()
        assert 0.3 < (a > 0).float().mean() < 0.7
        assert (a[a > 0].mean(), a[a < 0].mean()) == pytest.approx((0.6, -0.6), abs=0.1)
        near = ((a.abs() - 0.6).abs() < 0.3).float().mean()
        assert near == pytest.approx(mass(TwoBumps(), 0.3, 0.9), abs=0.07)
        best = policy.best(TwoBumps(), torch.zeros(5, 1))
    assert best.shape == (5, 1)
    assert (best.abs() - 0.6).abs().max() < 0.05  # the best of 64


def test_untaught_the_network_draws_widely():
    f = Amortised(NETWORK, OBS, ACTION, ALPHA, 10, 10)
    assert f.sample(TwoBumps(), torch.zeros(1, 1), 2000).std() > 0.5


@pytest.mark.parametrize("s", [-0.9, 0.5])
def test_the_value_is_the_integral(s):
    a = torch.linspace(-1.0, 1.0, 4001)
    exact = ALPHA * torch.trapezoid((0.6 * s * a / ALPHA).exp(), a).log()
    torch.manual_seed(0)
    found = langevin().value(Slope(), torch.full((100, 1), s))
    assert found.shape == (100,)
    assert found.mean() == pytest.approx(float(exact), abs=0.002)


def test_a_second_coordinate_doubles_the_volume():
    policy = Langevin(2, ALPHA, 50, 4, steps=1, step_length=0.1)
    q = Table(0.0)
    q.forward = lambda obs, action: 0.0 * action.sum(-1).unsqueeze(0)
    assert policy.value(q, torch.zeros(3, 1)).tolist() == pytest.approx([ALPHA * math.log(4.0)] * 3)
    assert policy.sample(q, torch.zeros(3, 1), 5).shape == (5, 3, 2)


def test_discrete_actions_are_drawn_by_softmax():
    q, policy = Table(0.0, 0.5, -0.2, -1e9), Softmax(ALPHA)
    torch.manual_seed(0)
    draws = policy.sample(q, torch.zeros(2, 1), 20_000)
    assert draws.shape == (20_000, 2)
    p = (q.q / ALPHA).softmax(-1)
    counts = torch.bincount(draws.flatten(), minlength=4) / draws.numel()
    assert_close(counts, p, atol=0.01, rtol=0.0)
    assert counts[3] == 0.0
    assert policy.best(q, torch.zeros(2, 1)).tolist() == [1, 1]
    expect = ALPHA * math.log(sum(math.exp(x / ALPHA) for x in (0.0, 0.5, -0.2)))
    assert policy.value(q, torch.zeros(2, 1)).tolist() == pytest.approx([expect] * 2)


def test_the_mean_of_qs():
    obs, action = torch.randn(6, 1), torch.tensor([0, 1, 2, 2, 1, 0])
    q = MeanQ([Table(1.0, 2.0, 3.0), Table(3.0, 0.0, 3.0)])
    assert_close(q.all(obs), torch.tensor([2.0, 1.0, 3.0]).expand(1, 6, 3))
    assert_close(q(obs, action), torch.tensor([[2.0, 1.0, 3.0, 3.0, 1.0, 2.0]]))


# ---------------------------------------------------------------- values from the network's own draws


class Linear(Amortised):
    """u = L ξ + s b: a network whose density is a Gaussian's."""

    def __init__(self, scale, shift, samples):
        super().__init__(NETWORK, OBS, gym.spaces.Box(-1.0, 1.0, (len(scale),), np.float32), ALPHA, samples, 4)
        self.scale, self.shift = scale, shift

    def forward(self, obs, noise):
        return noise @ self.scale.T + obs.unsqueeze(1) * self.shift


@pytest.fixture
def double(monkeypatch):
    """Noise of 64 bits."""
    monkeypatch.setattr(samplers, "normal", lambda n, obs, size: torch.randn(n, len(obs), size, dtype=torch.float64))


def test_one_draw_of_the_policy_itself_is_enough(double):
    """Q/α is the log-density of the network's actions and a constant of the state: every draw gives that constant."""
    scale = torch.tensor([[0.7, 0.2], [-0.4, 0.5]], dtype=torch.float64)
    shift, obs = torch.tensor([0.3, -0.6], dtype=torch.float64), torch.randn(40, 1, dtype=torch.float64)

    class Of(nn.Module):
        def forward(self, obs, action):
            u = action.atanh()
            law = torch.distributions.MultivariateNormal(obs * shift, scale @ scale.T)
            log_q = law.log_prob(u) - (1.0 - action.square()).log().sum(-1)
            return (ALPHA * log_q + 2.0 * obs.squeeze(-1)).unsqueeze(0)

    with torch.no_grad():
        value = Linear(scale, shift, 1).value_by_own_draws(Of(), obs)
    assert_close(value, 2.0 * obs.squeeze(-1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("s", [-0.9, 0.5])
def test_own_draws_give_the_integral(s):
    a = torch.linspace(-1.0, 1.0, 4001)
    exact = ALPHA * torch.trapezoid((0.6 * s * a / ALPHA).exp(), a).log()
    torch.manual_seed(0)
    policy = Linear(torch.tensor([[0.9]]), torch.tensor([0.8]), 4000)
    found = policy.value_by_own_draws(Slope(), torch.full((50, 1), s))
    assert found.shape == (50,)
    assert found.mean() == pytest.approx(float(exact), abs=0.005)


def test_a_networks_own_draws_have_the_density_of_its_derivative():
    """Against central differences of f; the network is one-to-one, as its slopes say."""
    torch.manual_seed(0)
    f = Amortised(NETWORK, OBS, ACTION, ALPHA, 2000, 4).double()
    obs, line, e = (
        torch.full((1, 1), 0.4, dtype=torch.float64),
        torch.linspace(-6.0, 6.0, 4001, dtype=torch.float64),
        1e-6,
    )
    with torch.no_grad():
        f.head.weight.mul_(3.0)
        high, low = (f(obs, (line + x).view(1, -1, 1)).flatten() for x in (e, -e))
        slope = (high - low) / (2.0 * e)
        assert slope.min() > 0.1
        assert slope.std() > 0.02  # it is not a line
        _, log_q = push_forward(lambda x: f(obs, x), line.view(1, -1, 1))
    expect = -0.5 * (line.square() + math.log(2.0 * math.pi)) - slope.log()
    near = (log_q[0] - expect).abs() < 1e-6
    assert near.double().mean() > 0.99  # but at the kinks of its layers


@pytest.mark.parametrize("rounds", [False, True])
def test_draws_that_saturate_leave_the_value_finite(rounds):
    f = Linear(torch.tensor([[1.0]]), torch.tensor([60.0]), 8)
    value = f.value_by_own_draws(Slope(), torch.full((5, 1), 1.0))
    assert bool(value.isfinite().all())
    network = MLP(**{**vars(NETWORK), "hidden": [64, 64]})
    network.rounds = rounds  # products of bfloat16 have derivatives, too
    value = Amortised(network, OBS, ACTION, ALPHA, 500, 4).value_by_own_draws(Slope(), torch.zeros(3, 1))
    assert value.tolist() == pytest.approx([ALPHA * math.log(2.0)] * 3, abs=0.1)
