"""Products between hidden layers in bfloat16, against the rounding written out."""

from types import SimpleNamespace

import gymnasium as gym
import pytest
import torch
import torch.nn.functional as F
from running import compose
from torch.testing import assert_close

from pgrun.nn import MLP, precision
from pgrun.nn.critics import first
from pgrun.nn.joint import Side
from pgrun.nn.layers import Layers
from pgrun.nn.models import Twin
from pgrun.nn.precision import between, in_full, medium_rounds, set_matmul_precision
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


def rounded(x):
    """To 8 binary digits, of which the first is not stored; written out."""
    mantissa, exponent = torch.frexp(x.double())
    return torch.ldexp((mantissa * 2**8).round(), exponent - 8)


def test_a_product_of_rounded_numbers():
    set_matmul_precision("bfloat16")
    x, weight, bias = torch.randn(40, 70), torch.randn(30, 70), torch.randn(30)
    exact = rounded(x) @ rounded(weight).T + rounded(bias)
    ours = between(F.linear)(x, weight, bias)
    assert ours.dtype == torch.float32
    assert torch.equal(ours.double(), rounded(ours))
    assert_close(ours.double(), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("rounds", [True, False])
def test_exact_takes_medium_where_it_rounds_no_more(rounds, monkeypatch):
    monkeypatch.setattr(precision, "medium_rounds", lambda: rounds)
    set_matmul_precision("exact")
    assert torch.get_float32_matmul_precision() == ("highest" if rounds else "medium")
    set_matmul_precision("exact", "cuda")
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("devices", [("cuda", "auto"), ("cpu", "cuda"), ("cuda", "cpu")])
def test_exact_is_highest_where_a_gpu_learns_or_acts(devices, monkeypatch):
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
def test_a_cpu_that_rounds_is_found_out(digits, monkeypatch):
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


def test_exact_is_exact_here():
    set_matmul_precision("exact")
    x = torch.randn(256, 256)
    assert_close(x @ x, (x.double() @ x.double()).float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_other_precisions_are_torchs(precision):
    set_matmul_precision("bfloat16")
    assert torch.get_float32_matmul_precision() == "highest"
    set_matmul_precision(precision)
    assert torch.get_float32_matmul_precision() == precision
    assert between(torch.bmm) is torch.bmm


def test_in_full_ends_however_it_ends():
    set_matmul_precision("bfloat16")
    with pytest.raises(ZeroDivisionError), in_full():
        _ = 1 / int(between(torch.bmm) is not torch.bmm)
    assert between(torch.bmm) is not torch.bmm
    set_matmul_precision("highest")
    with in_full():
        pass
    assert between(torch.bmm) is torch.bmm


@pytest.mark.parametrize("kind", KINDS)
def test_what_enters_and_what_leaves_a_network_keeps_its_digits(kind):
    _, run = networks(8)[kind]  # one hidden layer: nothing lies between
    full = run()
    set_matmul_precision("bfloat16")
    assert torch.equal(run(), full)


@pytest.mark.parametrize("kind", KINDS)
def test_between_hidden_layers_digits_are_dropped(kind):
    _, run = networks(32, 24)[kind]
    full = run()
    set_matmul_precision("bfloat16")
    ours = run()
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, full)
    assert_close(ours, full, rtol=0.0, atol=0.02 * float(full.detach().abs().max()))
    if kind != "layers":  # whose last layer is a hidden one
        assert not torch.equal(ours, ours.bfloat16().float())


def test_two_hidden_layers_written_out():
    set_matmul_precision("bfloat16")
    twin = Twin(mlp(32, 24), VECTOR, BOX, k=1)
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
    set_matmul_precision("bfloat16")
    ours = torch.autograd.grad(run().square().sum(), parameters)
    assert all(g.dtype == torch.float32 for g in ours)
    ours, full = (torch.cat([g.flatten() for g in each]) for each in (ours, full))
    assert 0.0 < float((ours - full).norm()) <= 0.02 * float(full.norm())
