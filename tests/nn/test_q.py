"""Q functions of discrete actions, against one function after the other written out by hand."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from pgrun.errors import UserError
from pgrun.nn import CNN, MLP
from pgrun.nn.q import DiscreteQ, duel

SPACE = gym.spaces.Box(-1.0, 1.0, (5,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (2, 8, 8), np.uint8)
ACTIONS = gym.spaces.Discrete(3)
COMMON: dict[str, Any] = {
    "activation": "tanh",
    "init_gain": 1.0,
    "head_gain": 0.01,
    "shared": False,
    "log_std_init": 0.0,
}
NETWORK = MLP(hidden=[7, 6], normalize_obs=False, **COMMON)
CONVOLUTIONS = CNN(hidden=[6], channels=[4], channels_last=None, **COMMON)


def by_hand(q: DiscreteQ, i: int, obs: torch.Tensor) -> torch.Tensor:
    """Function i of a batched DiscreteQ, layer by layer."""
    p = {name: x[i] if q.functions.k > 1 else x for name, x in q.functions.named_parameters()}  # type: ignore[attr-defined]
    x = torch.tanh(obs @ p["weight1"] + p["bias1"])
    if "weight_value" not in p:
        x = torch.tanh(x @ p["weight2"] + p["bias2"])
        return x @ p["weight_head"] + p["bias_head"]
    of_f = torch.tanh(x @ p["weight2"][:, :6] + p["bias2"][..., :6])
    of_v = torch.tanh(x @ p["weight2"][:, 6:] + p["bias2"][..., 6:])
    f = of_f @ p["weight_head"] + p["bias_head"]
    v = of_v @ p["weight_value"] + p["bias_value"]
    return torch.stack([v[:, 0] + f[:, a] - (f[:, 0] + f[:, 1] + f[:, 2]) / 3 for a in range(3)], -1)


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_batched_functions_are_the_functions_one_by_one(k, dueling):
    q = DiscreteQ(NETWORK, SPACE, ACTIONS, k=k, dueling=dueling)
    with torch.no_grad():
        for p in q.parameters():
            p.normal_()
    obs, action = torch.randn(4, 5), torch.tensor([0, 2, 1, 2])
    every = q.all(obs)
    assert every.shape == (k, 4, 3)
    for i in range(k):
        assert_close(every[i], by_hand(q, i, obs))
    assert_close(q(obs, action), torch.stack([every[:, m, a] for m, a in enumerate(action.tolist())], -1))
    assert k == 1 or not torch.allclose(every[0], every[1])


@pytest.mark.parametrize("dueling", [False, True])
def test_functions_of_images(dueling):
    q = DiscreteQ(CONVOLUTIONS, IMAGE, ACTIONS, k=2, dueling=dueling)
    obs = torch.randint(256, (4, 2, 8, 8), dtype=torch.uint8)
    every = q.all(obs)
    assert every.shape == (2, 4, 3)
    for one, values in zip(q.functions, every, strict=True):
        (c,) = one.encoder.convolutions
        features = torch.tanh(F.conv2d(obs / 255.0, c.weight, c.bias)).flatten(1)
        hidden = [one.encoder.layers, *one.streams]
        layers = [(m.weight0, m.bias0) for m in hidden if hasattr(m, "weight0")]
        streams = [torch.tanh(F.linear(features, *layer)) for layer in layers]
        assert len(streams) == (2 if dueling else 1)
        out = [head(x) for head, x in zip(one.heads, streams, strict=True)]
        assert_close(values, out[1] + out[0] - out[0].mean(-1, keepdim=True) if dueling else out[0])


@pytest.mark.parametrize("hidden", [[], [4]])
def test_dueling_on_no_or_one_layer(hidden):
    network = MLP(hidden=hidden, normalize_obs=False, **COMMON)
    assert DiscreteQ(network, SPACE, ACTIONS, dueling=True).all(torch.randn(2, 5)).shape == (1, 2, 3)


def test_the_advantages_of_a_duel_have_mean_zero():
    v, f = torch.randn(5, 1), torch.randn(5, 4)
    assert_close(duel(v, f).mean(-1, keepdim=True), v)
    assert_close(duel(v, f + 3.0), duel(v, f))


def test_what_is_forbidden_is_worth_nothing():
    space = gym.spaces.Dict({"x": SPACE, "action_mask": gym.spaces.MultiBinary(3)})
    q = DiscreteQ(NETWORK, space, ACTIONS, k=2)
    obs = {"x": torch.randn(2, 5), "action_mask": torch.tensor([[1, 0, 1], [1, 1, 0]])}
    free = q.all({**obs, "action_mask": torch.ones(2, 3)})
    every = q.all(obs)
    assert bool((every[:, [0, 1], [1, 2]] == -1e9).all())
    legal = obs["action_mask"].bool().expand(2, 2, 3)
    assert torch.equal(every[legal], free[legal])


def test_what_it_cannot_read_is_refused():
    for network, space, words in (
        (CONVOLUTIONS, SPACE, "use network=mlp"),
        (NETWORK, IMAGE, "use network=cnn"),
    ):
        with pytest.raises(UserError, match=words):
            DiscreteQ(network, space, ACTIONS)
