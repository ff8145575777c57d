"""Products between hidden layers in bfloat16, against the rounding written out."""

from types import SimpleNamespace

import gymnasium as gym
import pytest
import torch
import torch.nn.functional as F
from running import compose, parts
from torch import nn
from torch.testing import assert_close

from pgrun.nn import MLP, precision
from pgrun.nn.critics import first
from pgrun.nn.joint import Side
from pgrun.nn.layers import Layers
from pgrun.nn.models import Twin
from pgrun.nn.precision import hidden_product, in_full, medium_rounds, set_matmul_precision
from pgrun.nn.q import DiscreteQ
from pgrun.run import build

VECTOR = gym.spaces.Box(-1, 1, (3,))
BOX = gym.spaces.Box(-1, 1, (2,))


def mlp(*hidden):
    return MLP(
        hidden=list(hidden),
        activation="tanh",
        init_gain=1.0,
        head_gain=1.0,
        shared=False,
        log_std_init=0.0,
        normalize_obs=False,
    )


def networks(*hidden):
    """Every kind of network that has hidden layers, each as a function of a seeded input."""
    obs, action = torch.randn(11, 3), torch.randn(11, 2)
    layers = Layers([3, *hidden], "tanh", 1.0)
    twin = Twin(mlp(*hidden), VECTOR, BOX)
    q, qs = (DiscreteQ(mlp(*hidden), VECTOR, gym.spaces.Discrete(4), k=k) for k in (1, 2))
    side = Side(mlp(*hidden), [[0, 1, 2], [0, 2]], [4, 2], 1.0)
    return {
        "layers": (layers, lambda: layers(obs)),
        "twin": (twin, lambda: twin(obs, action)),
        "first": (twin, lambda: first(twin, obs, action)),
        "q": (q, lambda: q.all(obs)),
        "qs": (qs, lambda: qs.all(obs)),
        "side": (side, lambda: side(obs)),
    }


KINDS = list(networks(4))


@pytest.fixture
def torchs_setting():
    """Puts torch's own setting back, which is the process's."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def rounding(module):
    """Let a module's layers round, as those of a network that was told to."""
    layers = [layer for layer in module.modules() if hasattr(layer, "rounds")]
    assert layers
    for layer in layers:
        layer.rounds = True
    return module


OF_EACH_NETWORK = [
    ("algo=ppo", "env=cartpole"),
    ("algo=ppo", "env=cartpole", "network=lstm"),
    ("algo=dqn", "env=cartpole"),
    ("algo=td3", "env=pendulum"),
    ("algo=d4pg", "env=pendulum"),
    ("algo=sql", "env=pendulum"),
    ("algo=maddpg", "env=simple_spread"),
]


def rounded(x):
    """To 8 binary digits, of which the first is not stored; written out."""
    mantissa, exponent = torch.frexp(x.double())
    return torch.ldexp((mantissa * 2**8).round(), exponent - 8)


def test_a_product_of_rounded_numbers():
    x, weight, bias = torch.randn(40, 70), torch.randn(30, 70), torch.randn(30)
    exact = rounded(x) @ rounded(weight).T + rounded(bias)
    ours = hidden_product(F.linear, True)(x, weight, bias)
    assert ours.dtype == torch.float32
    assert torch.equal(ours.double(), rounded(ours))
    assert_close(ours.double(), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("rounds", [True, False])
def test_exact_takes_medium_where_it_rounds_no_more(rounds, monkeypatch, torchs_setting):
    monkeypatch.setattr(precision, "medium_rounds", lambda: rounds)
    set_matmul_precision("exact")
    assert torch.get_float32_matmul_precision() == ("highest" if rounds else "medium")
    set_matmul_precision("exact", "cuda")
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("devices", [("cuda", "auto"), ("cpu", "cuda"), ("cuda", "cpu")])
def test_exact_is_highest_where_a_gpu_learns_or_acts(devices, monkeypatch, torchs_setting):
    """torch's one setting is for its products too."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(precision, "medium_rounds", lambda: False)
    monkeypatch.setattr(build, "call", lambda *_, **__: None)  # nothing is put on a GPU that is not there
    device, act_device = devices
    config = compose("algo=sac", "env=pendulum", f"device={device}", f"act_device={act_device}")
    build.make_algorithm(config, SimpleNamespace(obs_space=VECTOR, action_space=BOX))
    assert torch.get_float32_matmul_precision() == "highest"
    build.make_algorithm(compose("algo=sac", "env=pendulum"), SimpleNamespace(obs_space=VECTOR, action_space=BOX))
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize("digits", [24, 11, 8])
def test_a_cpu_that_rounds_is_found_out(digits, monkeypatch, torchs_setting):
    """One whose medium keeps so many binary digits: a float32's, TF32's, bfloat16's."""
    exactly = torch.Tensor.__matmul__

    def product(a, b):
        if torch.get_float32_matmul_precision() == "medium":
            mantissa, exponent = torch.frexp(a)
            a = torch.ldexp((mantissa * 2**digits).round(), exponent - digits)
        return exactly(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    set_matmul_precision("high")
    assert medium_rounds.__wrapped__() == (digits < 24)
    assert torch.get_float32_matmul_precision() == "high"


def test_exact_is_exact_here(torchs_setting):
    set_matmul_precision("exact")
    x = torch.randn(256, 256)
    assert_close(x @ x, (x.double() @ x.double()).float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_other_precisions_are_torchs(precision, torchs_setting):
    set_matmul_precision("bfloat16")
    assert torch.get_float32_matmul_precision() == "highest"
    set_matmul_precision(precision)
    assert torch.get_float32_matmul_precision() == precision


def test_in_full_ends_however_it_ends():
    layers = Layers([3, 8, 8], "tanh", 1.0, rounds=True)
    other = Layers([3, 8, 8], "tanh", 1.0)
    both = nn.ModuleList([layers, other])
    with pytest.raises(ZeroDivisionError), in_full(both):
        _ = 1 / int(layers.rounds)
    assert (layers.rounds, other.rounds) == (True, False)


@pytest.mark.parametrize("words", OF_EACH_NETWORK, ids=" ".join)
def test_a_run_s_networks_round_where_it_asks(words):
    for name, rounds in (("bfloat16", True), ("highest", False)):
        algorithm = parts(*words, "network.hidden=[8,8]", f"matmul_precision={name}").algorithm
        found = [module.rounds for module in algorithm.modules() if hasattr(module, "rounds")]
        assert found
        assert set(found) == {rounds}


def test_two_runs_in_one_process_keep_their_own():
    rounded_one = parts("algo=td3", "env=pendulum", "network.hidden=[8,8]", "matmul_precision=bfloat16").algorithm
    full = parts("algo=td3", "env=pendulum", "network.hidden=[8,8]").algorithm
    obs, action = torch.randn(5, 3), torch.randn(5, 1)
    full.load_state_dict(rounded_one.state_dict())
    assert not torch.equal(full.q(obs, action), rounded_one.q(obs, action))
    with in_full(rounded_one):
        assert torch.equal(full.q(obs, action), rounded_one.q(obs, action))


@pytest.mark.parametrize("kind", KINDS)
def test_what_enters_and_what_leaves_a_network_keeps_its_digits(kind):
    module, run = networks(8)[kind]  # one hidden layer: nothing lies between
    full = run()
    rounding(module)
    assert torch.equal(run(), full)


@pytest.mark.parametrize("kind", KINDS)
def test_between_hidden_layers_digits_are_dropped(kind):
    module, run = networks(32, 24)[kind]
    full = run()
    rounding(module)
    ours = run()
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, full)
    assert_close(ours, full, rtol=0.0, atol=0.02 * float(full.detach().abs().max()))
    if kind != "layers":  # whose last layer is a hidden one
        assert not torch.equal(ours, ours.bfloat16().float())


def test_two_hidden_layers_written_out():
    twin = rounding(Twin(mlp(32, 24), VECTOR, BOX, k=1))
    obs, action = torch.randn(11, 3), torch.randn(11, 2)
    (w0, w1, w2), (b0, b1, b2) = ([x.detach()[0] for x in each] for each in (twin.weights, twin.biases))
    h = (torch.cat([obs, action], -1) @ w0 + b0).tanh()
    h = (rounded(rounded(h) @ rounded(w1)).float() + b1).tanh()
    assert_close(twin(obs, action)[0], (h @ w2 + b2).squeeze(-1), rtol=0.0, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_come_in_float32(kind):
    module, run = networks(32, 24)[kind]
    parameters = list(module.parameters())
    full = torch.autograd.grad(run().square().sum(), parameters)
    rounding(module)
    ours = torch.autograd.grad(run().square().sum(), parameters)
    assert all(g.dtype == torch.float32 for g in ours)
    ours, full = (torch.cat([g.flatten() for g in each]) for each in (ours, full))
    assert 0.0 < float((ours - full).norm()) <= 0.02 * float(full.norm())
