"""State-dependent exploration: its density against torch's, samples against the density, how long a matrix lasts."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from encoded import VECTOR, mlp
from torch import distributions as reference
from torch.testing import assert_close

from pgrun.data.hybrid import Hybrid
from pgrun.errors import UserError
from pgrun.nn.distributions import Gaussian, TanhGaussian
from pgrun.nn.heads import Head, HybridHead
from pgrun.nn.models import ActorCritic, SquashedActor
from pgrun.nn.sde import Matrices

BOX = gym.spaces.Box(-1, 1, (2,), np.float32)
FLOOR = math.exp(-5.0)  # σ of the feature that is always 1


def head(squash=False, features=5, **changes):
    h = Head(features, BOX, mlp(std="sde", squash=squash, head_gain=1.0, **changes))
    with torch.no_grad():
        h.noise.log_std.add_(0.5 * torch.randn(features, 2))
    return h


def sigma(h):
    """σ [F, n], written out: log σ is between −5 and 2, less ½ log F."""
    return torch.exp(-1.5 + 3.5 * torch.tanh((h.noise.log_std + 1.5) / 3.5)) / math.sqrt(len(h.noise.log_std))


def peer(h, z, squash=False):
    """torch's distribution of the same policy."""
    variance = sum(z[..., i, None] ** 2 * sigma(h)[i] ** 2 for i in range(z.shape[-1])) + FLOOR**2
    pi = reference.Independent(reference.Normal(h.layer(z), variance.sqrt()), 1)
    return reference.TransformedDistribution(pi, [reference.TanhTransform()]) if squash else pi


@pytest.mark.parametrize("squash", [False, True])
def test_the_density_is_torchs(squash):
    h, z = head(squash), torch.randn(6, 5)
    pi, torchs = h(z, z), peer(h, z, squash)
    assert type(pi) is (TanhGaussian if squash else Gaussian)
    action = pi.sample()
    assert_close(pi.log_prob(action), torchs.log_prob(action), rtol=1e-4, atol=1e-4)
    again = pi.like(pi.params())
    assert_close(again.log_prob(action), pi.log_prob(action))
    if not squash:
        assert_close(pi.entropy(), torchs.entropy())
        other = head()
        assert_close(pi.kl(other(z, z)), reference.kl_divergence(torchs, peer(other, z)))


@pytest.mark.parametrize("squash", [False, True])
def test_over_all_matrices_actions_have_that_density(squash):
    """At two states, which share each matrix: every moment up to the fourth, of each coordinate and between them."""
    h, z = head(squash), torch.randn(2, 5)
    n = 100_000
    matrices = torch.randn(n, 6 * 2)
    for state in z:
        features = state.expand(n, 5)
        pi = h(features, features, matrices)
        action = pi.sample()
        u = action.double().atanh() if squash else action
        standard = (u - pi.mean) * (-pi.log_std).exp()
        assert_close(standard.mean(0), torch.zeros(2, dtype=standard.dtype), rtol=0.0, atol=0.015)
        assert_close(standard.T @ standard / n, torch.eye(2, dtype=standard.dtype), rtol=0.0, atol=0.025)
        assert_close(standard.pow(4).mean(0), torch.full((2,), 3.0, dtype=standard.dtype), rtol=0.0, atol=0.15)
        expect = pi.entropy()[0] if not squash else pi.base.entropy()[0]
        found = -(pi if not squash else pi.base).log_prob(u.float()).mean()
        assert_close(found, expect, rtol=0.0, atol=0.01)


def test_one_matrix_is_one_function_of_the_state():
    """ε(s) = Θᵀz(s), linear in the features, the same for a state whenever it is seen."""
    h = head()
    matrix, z = torch.randn(1, 12), torch.randn(7, 5)
    pi = h(z, z, matrix.expand(7, 12))
    theta = matrix.view(6, 2) * torch.cat([sigma(h), torch.full((1, 2), FLOOR)])
    assert_close(pi.sample() - pi.mode(), torch.cat([z, torch.ones(7, 1)], -1) @ theta, rtol=1e-4, atol=1e-5)
    assert torch.equal(pi.sample(), pi.sample())


@pytest.mark.parametrize("log_std_init", [-2.0, 0.0, 1.0])
def test_sigma_starts_at_its_setting_where_features_are_of_size_1(log_std_init):
    h = Head(64, BOX, mlp(std="sde", log_std_init=log_std_init))
    z = torch.randn(1, 64).sign()
    assert_close(h(z, z).log_std, torch.full((1, 2), log_std_init), rtol=0.0, atol=2e-3)
    assert_close(h(0.0 * z, z).log_std, torch.full((1, 2), -5.0))


@pytest.mark.parametrize("learn", [False, True])
def test_gradients_of_sigma_reach_the_features_where_they_are_to(learn):
    h, z = head(sde_learn_features=learn), torch.randn(4, 5, requires_grad=True)
    (slope,) = torch.autograd.grad(h(z, z).entropy().sum(), [z], materialize_grads=True)
    assert bool(slope.any()) == learn
    mean, noise = torch.autograd.grad(h(z, z).log_prob(torch.zeros(2)).sum(), [z, h.noise.log_std])
    assert mean.any()
    assert noise.any()


def test_a_matrix_is_used_for_its_steps_then_drawn_anew():
    matrices, (held,) = Matrices([3, 4], 3), Matrices([3, 4], 3).initial(2, "cpu")
    carry, seen = (torch.ones(2, 9), held), []
    for _ in range(7):
        one, carry = matrices.take(carry, True)
        assert torch.equal(carry[0], torch.ones(2, 9))
        seen.append(one)
    for t in range(1, 7):
        assert torch.equal(seen[t], seen[t - 1]) == (t % 3 != 0)
    assert seen[0].shape == (2, 7)
    assert not torch.equal(seen[0][0], seen[0][1])  # a copy has its own


def test_a_copy_that_begins_anew_draws_alone():
    matrices = Matrices([4], None)
    before, (held,) = matrices.take(matrices.initial(3, "cpu"), True)
    held[1] = 0.0
    after, _ = matrices.take((held,), True)
    assert [bool((a == b).all()) for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_nothing_is_drawn_where_nothing_is_explored():
    model = ActorCritic(mlp(std="sde"), VECTOR, BOX)
    state, obs = torch.get_rng_state(), torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    carry = model.initial_carry(3)
    pi, after = model.step(obs, carry)
    assert torch.equal(pi.mode(), model.actor(obs).mean)
    assert torch.equal(after[0], carry[0])
    assert torch.equal(state, torch.get_rng_state())
    assert ActorCritic(mlp(std="state"), VECTOR, BOX).initial_carry(3) == ()


def test_an_actor_with_a_critic_of_actions_squashes_it_too():
    actor = SquashedActor(mlp(std="sde"), VECTOR, BOX)
    obs = torch.randn(5, 3)
    features = actor.encoder(obs)
    matrices = torch.randn(5, 6 * 2)
    pi = actor(obs, matrices)
    expect = actor.layer(features) + actor.noise(features).exp() * actor.noise.standard(features, matrices)
    assert_close(pi.sample(), expect.tanh())
    noise = torch.randn(5, 2)
    assert_close(pi.rsample(noise)[1], pi.log_prob(pi.rsample(noise)[0]), rtol=1e-3, atol=2e-3)


def test_each_part_of_an_action_has_its_own_matrix():
    space = Hybrid(gym.spaces.Tuple([gym.spaces.Discrete(3), BOX, gym.spaces.Box(-1, 1, (1,), np.float32)]))
    h = HybridHead(5, space, mlp(std="sde"))
    assert h.matrices == [0, 12, 6]
    z, matrices = torch.randn(4, 5), torch.randn(4, 18)
    pi = h(z, z, matrices)
    model = ActorCritic(mlp(std="sde"), VECTOR, space)
    assert model.initial_carry(4)[0].shape == (4, 1 + 18)
    assert model.step(torch.randn(4, 3), model.initial_carry(4), True)[0].sample().shape == (4, 4)
    for part, own in ((1, matrices[:, :12]), (2, matrices[:, 12:])):
        assert torch.equal(pi.parts[part].noise, h.heads[part].noise.standard(z, own))


WRONG: dict[str, dict[str, Any]] = {
    r"network\.log_std_init=3 is out of range: with network\.std=state or sde": {"std": "sde", "log_std_init": 3.0},
    r"network\.sde_sample_freq=4 is of state-dependent exploration: add network\.std=sde, or use .*=null": {
        "sde_sample_freq": 4
    },
    r"network\.sde_learn_features=true is of state-dependent exploration: .*=false": {
        "sde_learn_features": True,
        "std": "state",
    },
}


@pytest.mark.parametrize("says", WRONG)
def test_settings_that_mean_nothing_are_refused(says):
    with pytest.raises(UserError, match=says):
        mlp(**WRONG[says])
