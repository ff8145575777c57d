"""network.layer_norm in each network that has hidden layers, against torch's nn.LayerNorm put together by hand."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from encoded import VECTOR, cnn, image, mlp
from torch import nn
from torch.testing import assert_close

from pgrun.algos.parts.acer_critics import Dueling
from pgrun.nn.critics import EncodedQ, first
from pgrun.nn.deterministic_actor import AtomCritic
from pgrun.nn.encoders import Network
from pgrun.nn.joint import Side
from pgrun.nn.layers import LayerNorm, Layers
from pgrun.nn.models import Actor, Twin
from pgrun.nn.precision import in_full
from pgrun.nn.q import DiscreteQ
from pgrun.nn.values import ContinuousCritic

BOX = gym.spaces.Box(-1, 1, (2,), np.float32)
NORMED = {"layer_norm": True, "hidden": [8, 5], "activation": "silu"}


def randomized(module):
    """The module with random numbers everywhere, so that scales and shifts count."""
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()
    return module


def stack(weights, biases, scales, shifts, head=None):
    """torch's own layers: linear, normalised, activated; and a head at the end."""
    layers = []
    for w, b, scale, shift in zip(weights, biases, scales, shifts, strict=True):
        linear, norm = nn.Linear(*w.T.shape), nn.LayerNorm(len(b))
        linear.weight.data, linear.bias.data = w, b
        norm.weight.data, norm.bias.data = scale, shift
        layers += [linear, norm, nn.SiLU()]
    if head is not None:
        linear = nn.Linear(*head[0].T.shape)
        linear.weight.data, linear.bias.data = head
        layers.append(linear)
    return nn.Sequential(*layers)


def of_layers(layers, head=None):
    p = dict(layers.named_parameters())
    n = range(len(layers.names))
    parts = [[p[f"{name}{i}"] for i in n] for name in ("weight", "bias")]
    parts += [[p[f"norms.{i}.{name}"] for i in n] for name in ("weight", "bias")]
    return stack(*parts, head and (head.weight, head.bias))


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4, 3)])
def test_layers(shape):
    layers = randomized(Layers([3, 8, 5], "silu", 1.0, norm=True))
    x = torch.randn(shape, requires_grad=True)
    ours, torchs = layers(x), of_layers(layers)(x)
    assert_close(ours, torchs)
    assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, torchs)))


def test_it_starts_with_scale_1_and_shift_0_and_the_weights_that_it_has_without():
    torch.manual_seed(3)
    plain = Layers([3, 8, 5], "tanh", 1.0)
    torch.manual_seed(3)
    normed = Layers([3, 8, 5], "tanh", 1.0, norm=True)
    for name, p in normed.named_parameters():
        expect = plain.get_parameter(name) if "norms" not in name else torch.full_like(p, float("weight" in name))
        assert torch.equal(p, expect)
    assert not any("norms" in name for name, _ in plain.named_parameters())


def test_actors_of_vectors_and_of_images():
    actor = randomized(Actor(mlp(**NORMED), VECTOR, BOX))
    obs = torch.randn(6, 3)
    assert_close(actor(obs).mean, of_layers(actor.encoder.layers, actor.head.layer)(obs))
    space = image(2, 12, 12)
    actor = randomized(Actor(cnn(**{**NORMED, "hidden": [7]}), space, BOX))
    obs = torch.randint(0, 255, (4, *space.shape), dtype=torch.uint8)
    features = actor.encoder.convolve(obs)
    assert_close(actor(obs).mean, of_layers(actor.encoder.layers, actor.head.layer)(features))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_q_functions_side_by_side(k):
    twin = randomized(Twin(mlp(**NORMED), VECTOR, BOX, k=k))
    obs, action = torch.randn(6, 3), torch.randn(6, 2)
    q = twin(obs, action)
    for i in range(k):
        w, b = [x[i].T for x in twin.weights], [x[i, 0] for x in twin.biases]
        scales, shifts = [x.weight[i, 0] for x in twin.norms], [x.bias[i, 0] for x in twin.norms]
        by_hand = stack(w[:-1], b[:-1], scales, shifts, (w[-1], b[-1]))
        assert_close(q[i], by_hand(torch.cat([obs, action], -1)).squeeze(-1))
    assert_close(first(twin, obs, action), q[0])


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_q_functions_of_discrete_actions(k, dueling):
    q = randomized(DiscreteQ(mlp(**NORMED), VECTOR, gym.spaces.Discrete(4), k=k, dueling=dueling))
    obs = torch.randn(6, 3)
    every, f = q.all(obs), q.functions
    for i in range(k):
        p = {name: (x[i] if k > 1 else x).squeeze(0) for name, x in f.named_parameters()}
        halves = [slice(0, 5), slice(5, 10)] if dueling else [slice(0, 5)]
        outs = []
        for half, name in zip(halves, ("_head", "_value"), strict=False):
            w, b = [p["weight1"].T, p["weight2"].T[half]], [p["bias1"], p["bias2"][half]]
            scales = [p["norms.0.weight"], p["norms.1.weight"][half]]
            shifts = [p["norms.0.bias"], p["norms.1.bias"][half]]
            outs.append(stack(w, b, scales, shifts, (p[f"weight{name}"].T, p[f"bias{name}"]))(obs))
        expect = outs[0] if not dueling else outs[1] + outs[0] - outs[0].mean(-1, keepdim=True)
        assert_close(every[i], expect, rtol=1e-4, atol=1e-5)


def test_other_critics():
    obs, action = torch.randn(6, 3), torch.randn(6, 2)
    beside = torch.cat([obs, action], -1)
    atoms = randomized(AtomCritic(mlp(**NORMED), VECTOR, BOX, 7))
    assert_close(atoms(obs, action), of_layers(atoms.layers, atoms.head)(beside))
    encoded = randomized(EncodedQ(mlp(**NORMED), VECTOR, 2))
    features = torch.cat([of_layers(encoded.encoder.layers)(obs), action], -1)
    assert_close(encoded(obs, action), of_layers(encoded.layers, encoded.head)(features).squeeze(-1))
    network: Network = mlp(**NORMED)
    for critic in (
        randomized(ContinuousCritic(network.encoder(VECTOR), network, 2, 16)),
        randomized(Dueling(5, BOX, network, 2)),
    ):
        norm, features = nn.LayerNorm(5), torch.randn(6, 5)
        norm.weight, norm.bias = critic.norm.weight, critic.norm.bias
        hidden = nn.functional.silu(norm(critic.of_state(features) + critic.of_action(action)))
        if isinstance(critic, Dueling):
            assert_close(critic.advantage(features, action), critic.a(hidden).squeeze(-1))
        else:
            assert_close(critic.score(features, action), critic.head(hidden))


def test_networks_of_several_agents():
    sees, outputs = [[0, 1], [3, 1, 2], [4]], [2, 1, 3]
    side, x = Side(mlp(**NORMED), sees, outputs, 1.0), torch.randn(6, 5)
    with torch.no_grad():
        side.theta[:, -26:].normal_()  # scales and shifts of 8 and 5 units; padded weights stay zero
    y = side(x)
    for i, (columns, n) in enumerate(zip(sees, outputs, strict=True)):
        parts = side.theta[i].split(side.sizes)
        w = [part.view(shape).T for part, shape in zip(parts[0:6:2], side.shapes, strict=True)]
        w[0] = w[0][:, : len(columns)]
        by_hand = stack(w[:2], parts[1:5:2], parts[6::2], parts[7::2], (w[2][:n], parts[5][:n]))
        assert_close(y[i, :, :n], by_hand(x[:, columns]))


def test_two_streams_are_normalised_apart():
    norm = LayerNorm(4, streams=2)
    x = torch.randn(6, 8) * torch.cat([torch.ones(4), torch.full((4,), 9.0)]) + 5.0
    for part in norm(x).chunk(2, -1):
        assert_close(part.mean(-1), torch.zeros(6), rtol=0.0, atol=1e-5)
        assert_close(part.std(-1, correction=0), torch.ones(6), rtol=0.0, atol=1e-2)


def test_products_between_normalised_layers_are_rounded():
    layers = randomized(Layers([3, 8, 5], "silu", 1.0, rounds=True, norm=True))
    x = torch.randn(6, 3)
    rounded = layers(x)
    with in_full(layers):
        assert_close(layers(x), of_layers(layers)(x))
        assert 1e-4 < (rounded - layers(x)).abs().max() < 0.3
