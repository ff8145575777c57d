"""Networks side by side are the single networks; joint actions are the agents' own."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pgrun.data.types import from_blocks, to_blocks, width
from pgrun.errors import UserError
from pgrun.nn import MLP
from pgrun.nn.joint import JointAction, JointActors, JointCritics, Side

spaces = gym.spaces
NETWORK = MLP(
    hidden=[8, 6],
    activation="relu",
    init_gain=0.0,
    head_gain=0.0,
    shared=False,
    log_std_init=0.0,
    normalize_obs=False,
)
OBS = spaces.Dict({name: spaces.Box(-1.0, 1.0, (n,), np.float32) for name, n in (("a", 3), ("b", 5), ("c", 2))})
ACTIONS = spaces.Dict(
    {
        "a": spaces.Discrete(4),
        "b": spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32)),
        "c": spaces.MultiDiscrete([2, 3]),
    }
)


def single(side: Side, i: int, inputs: int, outputs: int) -> nn.Module:
    """Network i of a side by itself, its weights as torch's own layers hold them."""
    row, layers, at = side.theta[i].detach(), [], 0
    sizes = [inputs, 8, 6, outputs]
    for (into, out), (full_in, full_out) in zip(itertools.pairwise(sizes), side.shapes, strict=True):
        weight = row[at : at + full_in * full_out].view(full_in, full_out)
        bias = row[at + full_in * full_out : at + full_in * full_out + full_out]
        at += full_in * full_out + full_out
        layer = nn.Linear(into, out)
        layer.weight.data, layer.bias.data = weight[:into, :out].T.clone(), bias[:out].clone()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_networks_side_by_side_are_the_single_ones():
    sees, outputs = [[0, 1], [3, 1, 2], [4]], [2, 1, 3]
    side, x = Side(NETWORK, sees, outputs, 0.0), torch.randn(10, 5)
    y = side(x)
    weights = torch.randn(3, 10, 3)
    (y * weights).sum().backward()
    for i, (columns, n) in enumerate(zip(sees, outputs, strict=True)):
        net = single(side, i, len(columns), n)
        out = net(x[:, columns])
        torch.testing.assert_close(y[i, :, :n], out)
        if n == 3:  # the gradient, too
            (out * weights[i]).sum().backward()
            grads = torch.cat(
                [torch.cat([x.flatten() for x in (m.weight.grad.T, m.bias.grad)]) for m in net if hasattr(m, "weight")]
            )
            padded = side.theta.grad[i].view(-1)
            assert len(grads) < len(padded)
            torch.testing.assert_close(padded[padded != 0].sort()[0], grads[grads != 0].sort()[0])


def test_padding_stays_zero():
    side = Side(NETWORK, [[0, 1, 2], [1]], [1, 1], 0.0)
    weight = side.theta.detach().split(side.sizes, 1)[0].unflatten(1, side.shapes[0])
    assert torch.equal(weight[1, 1:], torch.zeros(2, 8))
    assert bool((weight[1, 0] != 0).all())
    side(torch.randn(20, 3)).square().sum().backward()
    grad = side.theta.grad.split(side.sizes, 1)[0].unflatten(1, side.shapes[0])
    assert torch.equal(grad[1, 1:], torch.zeros(2, 8))


def test_an_input_of_each_is_that_of_each():
    for sees in ([[0, 1], [1, 2], [2]], [[0, 1, 2]] * 3):
        side, x = Side(NETWORK, sees, [2, 2, 2], 0.0), torch.randn(3, 4, 3)
        each = torch.stack([side(x[i])[i] for i in range(3)])
        torch.testing.assert_close(side(x), each)


def test_networks_start_as_torchs_layers_do():
    side = Side(NETWORK, [[0, 1, 2, 3]] * 400, [1] * 400, 0.0)
    first = side.theta.detach().split(side.sizes, 1)[0]
    assert float(first.abs().max()) <= 0.5  # 1/√4
    assert float(first.std()) == pytest.approx(0.5 / 3**0.5, rel=0.03)


def test_actors_see_their_own_observations():
    actors = JointActors(NETWORK, OBS, ACTIONS, 2)
    obs = {name: torch.randn(6, *space.shape) for name, space in OBS.items()}
    before = actors(obs)
    assert before.shape == (2, 6, 4 + 2 + 5)
    after = actors({**obs, "b": torch.randn(6, 5)})
    changed = (before != after).any(0).any(0)
    assert changed.tolist() == [False] * 4 + [True] * 2 + [False] * 5
    for r in range(2):
        for n, (name, columns) in enumerate((("a", slice(0, 4)), ("b", slice(4, 6)), ("c", slice(6, 11)))):
            net = single(actors.side, 3 * r + n, OBS[name].shape[0], columns.stop - columns.start)
            torch.testing.assert_close(before[r, :, columns], net(obs[name]))


@pytest.mark.parametrize("central", [True, False])
def test_what_critics_see(central):
    q = JointCritics(NETWORK, OBS, ACTIONS, central=central)
    obs, action = {name: torch.randn(6, *space.shape) for name, space in OBS.items()}, torch.randn(6, 11)
    before = q(obs, action)
    other_obs = q({**obs, "b": torch.randn(6, 5)}, action)
    other_action = q(obs, torch.cat([action[:, :4], torch.randn(6, 2), action[:, 6:]], -1))
    for other in (other_obs, other_action):
        assert (before != other).any(-1).tolist() == ([True] * 3 if central else [False, True, False])
    each = torch.randn(3, 6, 11)
    torch.testing.assert_close(q(obs, each), torch.stack([q(obs, each[i])[i] for i in range(3)]))


def test_blocks_go_there_and_back():
    for space in (*ACTIONS.values(), spaces.Box(-1.0, 1.0, (3,), np.float32)):
        drawn = torch.as_tensor(np.stack([space.sample() for _ in range(20)]))
        laid = to_blocks(drawn, space)
        assert laid.shape == (20, width(space))
        assert torch.equal(from_blocks(laid, space), drawn)
    assert to_blocks(torch.tensor([[1, 2]]), ACTIONS["c"]).tolist() == [[0, 1, 0, 0, 1]]


def test_the_likeliest_action():
    joint, u = JointAction(ACTIONS), torch.randn(9, 11)
    action = joint(u, None)
    assert torch.equal(from_blocks(action[:, :4], ACTIONS["a"]), u[:, :4].argmax(-1))
    assert torch.equal(from_blocks(action[:, 6:], ACTIONS["c"])[:, 1], u[:, 8:].argmax(-1))
    torch.testing.assert_close(action[:, 4:6], torch.stack([u[:, 4].tanh(), u[:, 5]], -1))
    assert torch.equal(action[:, 6:8].sum(-1), torch.ones(9))


def test_samples_of_each_choice_are_by_themselves():
    joint = JointAction(ACTIONS)
    u = torch.randn(11)
    noise = -torch.log(-torch.log(torch.rand(30_000, 11)))
    y = joint(u.expand(30_000, 11), noise, 0.8).mean(0)
    for block in (slice(0, 4), slice(6, 8), slice(8, 11)):
        torch.testing.assert_close(y[block], u[block].softmax(-1), atol=0.015, rtol=0)


def test_likelihood_and_entropy_are_those_of_the_distributions():
    joint, u = JointAction(ACTIONS), torch.randn(5, 11)
    drawn = {name: torch.as_tensor(np.stack([space.sample() for _ in range(5)])) for name, space in ACTIONS.items()}
    action = torch.cat([to_blocks(drawn[name], space) for name, space in ACTIONS.items()], -1)
    log_p, entropy = joint.log_likelihood(u, action), joint.entropy(u)
    first = torch.distributions.Categorical(logits=u[:, :4])
    second, third = (torch.distributions.Categorical(logits=x) for x in (u[:, 6:8], u[:, 8:]))
    normal = torch.distributions.Normal(torch.stack([u[:, 4].tanh(), u[:, 5]], -1), 1.0)
    torch.testing.assert_close(log_p[:, :4].sum(-1), first.log_prob(drawn["a"]))
    chosen = second.log_prob(drawn["c"][:, 0]) + third.log_prob(drawn["c"][:, 1])
    torch.testing.assert_close(log_p[:, 6:].sum(-1), chosen)
    torch.testing.assert_close(log_p[:, 4:6] - 0.5 * np.log(2 * np.pi), normal.log_prob(drawn["b"]))
    torch.testing.assert_close(entropy[:, :4].sum(-1), first.entropy())
    torch.testing.assert_close(entropy[:, 6:].sum(-1), second.entropy() + third.entropy())
    assert torch.equal(entropy[:, 4:6], torch.zeros(5, 2))


def test_agents_of_one_kind():
    numbers = JointAction(spaces.Dict({name: spaces.Box(-1.0, 1.0, (2,), np.float32) for name in "ab"}))
    u = torch.randn(3, 4)
    torch.testing.assert_close(numbers(u, torch.randn(3, 4)), u.tanh())
    choices = JointAction(spaces.Dict({name: spaces.Discrete(2) for name in "ab"}))
    assert torch.equal(choices(u, None), torch.cat([F.one_hot(x.argmax(-1), 2) for x in u.split(2, -1)], -1).float())


def test_what_can_not_be_had():
    with pytest.raises(UserError, match="use Discrete, MultiDiscrete or Box"):
        JointAction(spaces.Dict({"a": spaces.MultiBinary(3)}))
    image = spaces.Dict({"a": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    with pytest.raises(UserError, match="are images"):
        JointActors(NETWORK, image, spaces.Dict({"a": spaces.Discrete(2)}), 1)
