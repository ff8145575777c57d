"""Heads of Gaussian policies: what σ is, within which bounds, squashed or not."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from encoded import mlp
from torch import distributions as reference
from torch.testing import assert_close

from pgrun.errors import UserError
from pgrun.nn.gaussian import Gaussian, TanhGaussian
from pgrun.nn.heads import Head

BOX = gym.spaces.Box(-1, 1, (2,), np.float32)
KINDS = [("global", False), ("state", False), ("global", True), ("state", True)]


def head(std, squash, **changes):
    return Head(5, BOX, mlp(std=std, squash=squash, **changes))


@pytest.mark.parametrize(("std", "squash"), KINDS)
def test_a_head_is_torchs_distribution_of_its_layers_outputs(std, squash):
    h = head(std, squash, head_gain=1.0, log_std_init=0.5)
    features = torch.randn(6, 5)
    pi, out = h(features, features), h.layer(features)
    mean, log_std = out.chunk(2, -1) if std == "state" else (out, h.log_std.expand(6, 2))
    if std == "state" or squash:
        log_std = -1.5 + 3.5 * torch.tanh((log_std + 1.5) / 3.5)  # between −5 and 2
    peer = reference.Independent(reference.Normal(mean, log_std.exp()), 1)
    peer = reference.TransformedDistribution(peer, [reference.TanhTransform()]) if squash else peer
    assert type(pi) is (TanhGaussian if squash else Gaussian)
    action = pi.sample()
    assert_close(pi.log_prob(action), peer.log_prob(action), rtol=1e-4, atol=1e-4)
    assert_close(pi.mode(), mean.tanh() if squash else mean)
    names = {name for name, _ in h.named_parameters()}
    assert names == {"layer.weight", "layer.bias"} | ({"log_std"} if std == "global" else set())
    assert h.layer.out_features == (4 if std == "state" else 2)


@pytest.mark.parametrize(("std", "squash"), KINDS)
@pytest.mark.parametrize("log_std_init", [-3.0, 0.0, 1.0])
@pytest.mark.parametrize("head_gain", [0.0, 0.01])
def test_log_std_starts_at_its_first_value(std, squash, log_std_init, head_gain):
    h = head(std, squash, log_std_init=log_std_init, head_gain=head_gain)
    log_std = h(torch.zeros(5), torch.zeros(5)).log_std
    assert_close(log_std, torch.full((2,), log_std_init))


@pytest.mark.parametrize("squash", [False, True])
def test_sigma_depends_on_the_state_and_stays_within_bounds(squash):
    h = head("state", squash, head_gain=1.0)
    log_std = h(1e3 * torch.randn(200, 5), torch.zeros(200, 5)).log_std
    assert log_std.std(0).min() > 0.5
    assert -5.0 <= log_std.min() < -4.9
    assert 1.9 < log_std.max() <= 2.0
    assert head("global", squash)(torch.randn(3, 5), torch.zeros(3, 5)).log_std.shape == (2,)


@pytest.mark.parametrize(("std", "squash"), KINDS[1:])
@pytest.mark.parametrize("log_std_init", [-5.0, 2.0, 7.0])
def test_a_first_log_std_out_of_bounds_is_refused(std, squash, log_std_init):
    with pytest.raises(UserError, match=r"network\.log_std_init=\S+ is out of range: .* between -5 and 2"):
        mlp(std=std, squash=squash, log_std_init=log_std_init)
    mlp(log_std_init=log_std_init)  # one σ of all states has no bounds


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match=r"network\.std=both is not known; choose global, state or sde"):
        mlp(std="both")


def test_what_has_no_bounds_cant_be_squashed():
    space = gym.spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32))
    with pytest.raises(UserError, match=r"keeps actions within bounds, and .* have none; use network.squash=false"):
        Head(5, space, mlp(squash=True))
    Head(5, space, mlp(std="state"))
