"""Critics of continuous actions: what is exact about their means under π, and an actor's with them."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from encoded import VECTOR, mlp
from models_seen import seen
from torch import nn
from torch.testing import assert_close

from pgrun.errors import UserError
from pgrun.nn import ActorCritic
from pgrun.nn.distributions import Gaussian, TanhGaussian
from pgrun.nn.quadrature import normal_nodes
from pgrun.nn.values import ContinuousAdvantage, ContinuousCritic, actions_at, make_critic

spaces = gym.spaces
EXACT = {"rtol": 0.0, "atol": 1e-10}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def box(n):
    return spaces.Box(-1.0, 1.0, (n,), np.float32)


def policy(kind, n, *shape):
    g = torch.Generator().manual_seed(5)
    return kind(torch.randn(*shape, n, generator=g), 0.3 * torch.randn(n, generator=g) - 0.5)


@pytest.mark.parametrize("of", [Gaussian, TanhGaussian])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kind", ["q", "a"])
def test_v_is_the_mean_of_q_and_a_has_mean_zero(kind, n, of):
    """Under the rule, exactly; and the rule is near what a hundred thousand draws say."""
    torch.manual_seed(1)
    critic = make_critic(kind, mlp().encoder(VECTOR), mlp(), box(n), 64)
    features, pi = torch.randn(4, 2, 5), policy(of, n, 4, 2)
    actions = actions_at(pi, critic.noise)
    assert actions.shape == (64, 4, 2, n)
    q = torch.stack([critic.taken(features, a, pi) for a in actions])
    v = critic.expected(features, pi)
    assert_close(torch.tensordot(critic.weight, q, 1), v, **EXACT)
    here, of_one = features[0, 0], of(pi.params()[0, 0, :n].expand(100_000, n), pi.params()[0, 0, n:])
    with torch.no_grad():
        drawn = critic.score(here, of_one.sample())
        assert float(critic.mean(features, pi)[0, 0]) == pytest.approx(float(drawn.mean()), abs=0.02)
        assert float(drawn.std()) > 0.05


@pytest.mark.parametrize("kind", ["q", "a"])
def test_no_gradient_goes_from_the_critic_to_the_policy(kind):
    model = ActorCritic(mlp(), VECTOR, box(2), kind=kind, nodes=8)
    batch = seen(torch.randn(6, 3), action=torch.randn(6, 2))
    model.value(batch).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.actor.parameters())
    critic = dict(model.critic.named_parameters())
    still = {name for name, p in critic.items() if not (p.grad is not None and p.grad.any())}
    assert still == ({"f.bias"} if kind == "a" else set())  # which centring takes out


class Quadratic(ContinuousCritic):
    """Q(s, a) = −(a − a*)ᵀ M (a − a*)."""

    def __init__(self, m, best, nodes):
        nn.Module.__init__(self)
        self.m, self.best = m, best
        self.noise, self.weight = normal_nodes(len(best), nodes)

    def score(self, features, action):
        off = action - self.best
        return -(off @ self.m * off).sum(-1, keepdim=True)


def spd(n, seed):
    x = torch.randn(n, n, generator=torch.Generator().manual_seed(seed))
    return x @ x.T + 0.1 * torch.eye(n)


@pytest.mark.parametrize("n", [1, 3])
def test_of_a_quadratic_q_the_mean_and_the_policy_gradient_are_the_closed_forms(n):
    """E_π[Q] = −(μ − a*)ᵀM(μ − a*) − Σ_i M_ii σ_i²; ∇_μ = −2M(μ − a*), ∇_log σ_i = −2 M_ii σ_i²."""
    m, best = spd(n, 1), torch.linspace(-0.5, 0.7, n)
    critic = Quadratic(m, best, 2 if n == 1 else 6)
    mean = torch.linspace(0.2, -0.9, n).requires_grad_()
    log_std = torch.linspace(-1.0, 0.3, n).requires_grad_()
    pi = Gaussian(mean, log_std)
    off, variance = mean - best, (2.0 * log_std).exp()
    v = critic.expected(torch.zeros(5), pi)
    assert_close(v, -(off @ m @ off) - m.diagonal() @ variance, **EXACT)
    # E_π[∇log π Ψ] has degree 4: the product of one-dimensional rules is exact for it
    x, w = normal_nodes(1, 3)
    noise = torch.tensor(list(itertools.product(x[:, 0].tolist(), repeat=n)))
    weight = torch.tensor(list(itertools.product(w.tolist(), repeat=n))).prod(-1)
    action = actions_at(pi, noise).detach()
    for psi in (critic.taken(torch.zeros(5), action, pi), critic.taken(torch.zeros(5), action, pi) - v):
        objective = (weight * pi.log_prob(action) * psi.detach()).sum()
        of_mean, of_log_std = torch.autograd.grad(objective, (mean, log_std), retain_graph=True)
        assert_close(of_mean, (-2.0 * m @ off).detach(), **EXACT)
        assert_close(of_log_std, (-2.0 * m.diagonal() * variance).detach(), **EXACT)


class LinearQuadratic(ContinuousCritic):
    """Q^π of s′ = As + Ba, r = −sᵀCs − aᵀRa, π = N(Ks, σ²I); features are the states."""

    def __init__(self, n, nodes, gamma=0.9, std=0.4):
        nn.Module.__init__(self)
        g = torch.Generator().manual_seed(2)
        self.a, self.b = (0.5 * torch.randn(n, n, generator=g) / n**0.5 for _ in range(2))
        self.k, self.c, self.r, self.gamma = 0.3 * torch.randn(n, n, generator=g), spd(n, 3), spd(n, 4), gamma
        self.log_std = torch.full((n,), std).log()
        closed = self.a + self.b @ self.k
        cost = self.c + self.k.T @ self.r @ self.k
        big = torch.eye(n * n) - gamma * torch.kron(closed.T, closed.T)
        self.p = torch.linalg.solve(big, cost.flatten()).view(n, n)  # P = C + KᵀRK + γ (A + BK)ᵀ P (A + BK)
        self.rest = std**2 * (self.r + gamma * self.b.T @ self.p @ self.b).trace() / (1.0 - gamma)
        self.noise, self.weight = normal_nodes(n, nodes)

    def v(self, s):
        return -(s @ self.p * s).sum(-1) - self.rest

    def score(self, features, action):
        reward = -(features @ self.c * features).sum(-1) - (action @ self.r * action).sum(-1)
        return (reward + self.gamma * self.v(features @ self.a.T + action @ self.b.T)).unsqueeze(-1)


@pytest.mark.parametrize("n", [1, 3])
def test_of_a_linear_quadratic_world_the_mean_of_q_is_v(n):
    critic = LinearQuadratic(n, 2)
    s = torch.randn(7, n)
    pi = Gaussian(s @ critic.k.T, critic.log_std)
    assert_close(critic.expected(s, pi), critic.v(s), **EXACT)


@pytest.mark.parametrize("kind", ["q", "a"])
@pytest.mark.parametrize("shared", [False, True])
def test_an_actor_with_such_a_critic(kind, shared):
    model = ActorCritic(mlp(shared=shared), VECTOR, spaces.Box(-1.0, 1.0, (2, 2), np.float32), kind=kind, nodes=4)
    assert isinstance(model.critic, ContinuousAdvantage if kind == "a" else ContinuousCritic)
    assert len(model.critic.noise) == 8  # two a dimension at least
    batch = seen(torch.randn(4, 5, 3), next_obs=torch.randn(4, 5, 3), action=torch.randn(4, 5, 4))
    pi, value = model(batch)
    assert value.shape == (4, 5)
    assert_close(value, model.value(batch))
    features = model.critic.encoder(batch.obs)
    assert_close(value, model.critic.taken(features, batch.action, pi))
    assert_close(model.state_value(batch), model.critic.expected(features, pi))
    ahead = batch._replace(obs=batch.next_obs)
    assert_close(model.next_value(batch), model.state_value(ahead))
    assert not {"critic.noise", "critic.weight"} & set(model.state_dict())


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)])
@pytest.mark.parametrize("kind", ["q", "a"])
def test_other_actions_are_refused(kind, space):
    with pytest.raises(UserError, match=r"needs Discrete or Box actions, not Multi.*use algo/advantage=td") as refusal:
        ActorCritic(mlp(), VECTOR, space, kind=kind, nodes=4)
    assert "\n" not in str(refusal.value)
