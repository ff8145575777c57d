"""Deterministic actors and their critics."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pgrun.errors import UserError
from pgrun.nn import MLP, Twin
from pgrun.nn.critics import first
from pgrun.nn.deterministic_actor import AtomCritic, DeterministicActor, atom_critic, jacobian_product

OBS = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)


def mlp(**changes):
    keys = {"hidden": [5], "activation": "tanh", "init_gain": 1.0, "head_gain": 1.0, "shared": False}
    return MLP(**{**keys, "log_std_init": 0.0, "normalize_obs": False, **changes})


def box(*edges):
    high = np.array(edges, dtype=np.float32)
    return gym.spaces.Box(-high, high, dtype=np.float32)


def test_bounded_coordinates_are_squashed_and_the_others_are_not():
    obs = 10.0 * torch.randn(50, 3)
    for edges in ([1.0, 1.0], [np.inf, np.inf], [1.0, np.inf]):
        actor = DeterministicActor(mlp(head_gain=3.0), OBS, box(*edges))
        u = actor.layer(actor.encoder(obs))
        want = torch.stack([u[:, i].tanh() if e == 1.0 else u[:, i] for i, e in enumerate(edges)], -1)
        assert_close(actor(obs), want)
        assert actor.edge.tolist() == edges
        assert "edge" not in actor.state_dict()


@pytest.mark.parametrize("edges", [(1.0, 1.0), (np.inf, 1.0)])
def test_the_jacobian_product_is_that_of_autograds_jacobian(edges):
    actor = DeterministicActor(mlp(), OBS, box(*edges)).double()
    obs, parameters = torch.randn(7, 3, dtype=torch.float64), list(actor.parameters())
    w = torch.randn(sum(p.numel() for p in parameters), dtype=torch.float64, requires_grad=True)
    mu, product = jacobian_product(actor, obs, w)
    assert_close(mu, actor(obs).detach())
    for m in range(7):
        for i in range(2):
            row = torch.autograd.grad(actor(obs)[m, i], parameters)
            features = torch.cat([g.flatten() for g in row])  # ∇_θμ_i(s)
            assert_close(product[m, i], features @ w)
            assert_close(torch.autograd.grad(product[m, i], w, retain_graph=True)[0], features)


def test_the_first_of_several_qs():
    q = Twin(mlp(hidden=[6, 5], activation="relu", init_gain=0.0), OBS, box(1.0, 1.0), k=3)
    obs, action = torch.randn(8, 3), torch.randn(8, 2, requires_grad=True)
    all_of_them = q(obs, action)
    assert_close(first(q, obs, action), all_of_them[0])
    assert not torch.allclose(all_of_them[0], all_of_them[1])
    assert_close(
        torch.autograd.grad(first(q, obs, action).sum(), action), torch.autograd.grad(all_of_them[0].sum(), action)
    )


def test_a_distribution_of_state_and_action():
    z = AtomCritic(mlp(), OBS, box(1.0, 1.0), 11)
    obs, action = torch.randn(4, 3), torch.randn(4, 2)
    assert z(obs, action).shape == (4, 11)
    assert not torch.allclose(z(obs, action), z(obs, -action))
    assert not torch.allclose(z(obs, action), z(-obs, action))
    with pytest.raises(UserError, match="use network=mlp"):
        atom_critic(mlp(), gym.spaces.Box(0, 255, (3, 8, 8), np.uint8), box(1.0), 11)
