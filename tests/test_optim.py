import functools
import shutil

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pgrun.errors import UserError
from pgrun.optim import SGD, Adam, GradientStep, Optimizer, RMSprop, flatten_parameters

STEPS = 20
ADAM = {"betas": (0.8, 0.95), "eps": 1e-3}


class HandRMSprop(torch.optim.Optimizer):
    """ε inside the root and v starting at one, as TensorFlow has it; torch.optim's puts ε outside and starts at 0."""

    def __init__(self, params, lr, alpha, eps):
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                v = self.state[p].get("v", torch.ones_like(p))
                v = group["alpha"] * v + (1.0 - group["alpha"]) * p.grad**2
                self.state[p]["v"] = v
                p -= group["lr"] * p.grad / torch.sqrt(v + group["eps"])


PAIRS = {
    "adam": (
        functools.partial(Adam, weight_decay=0.0, decoupled=False, **ADAM),
        functools.partial(torch.optim.Adam, **ADAM),
    ),
    "adam_l2": (
        functools.partial(Adam, weight_decay=0.1, decoupled=False, **ADAM),
        functools.partial(torch.optim.Adam, weight_decay=0.1, **ADAM),
    ),
    "adamw": (
        functools.partial(Adam, weight_decay=0.1, decoupled=True, **ADAM),
        functools.partial(torch.optim.AdamW, weight_decay=0.1, **ADAM),
    ),
    "sgd": (functools.partial(SGD, momentum=0.0), torch.optim.SGD),
    "momentum": (functools.partial(SGD, momentum=0.9), functools.partial(torch.optim.SGD, momentum=0.9)),
    "rmsprop": (
        functools.partial(RMSprop, alpha=0.9, eps=1e-3),
        functools.partial(HandRMSprop, alpha=0.9, eps=1e-3),
    ),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.unused = nn.Parameter(torch.ones(3))  # in the loss of nobody

    def loss(self, x, y):
        error = (self.body(x) - y).square().mean()
        return error, {"error": error.detach()}

    def step(self, optimizer, **changes):
        kwargs = {"max_grad_norm": None, "compile": False, **changes}
        return GradientStep(self, self.body.parameters(), self.loss, optimizer, **kwargs)


def data(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(16, 4, generator=g), 3.0 * torch.randn(16, 2, generator=g)


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
@pytest.mark.parametrize("name", PAIRS)
def test_the_flat_rules_are_torchs(name, max_grad_norm):
    ours, theirs = (functools.partial(o, lr=0.02) for o in PAIRS[name])
    flat, plain = Net(), Net()
    step = flat.step(functools.partial(ours, schedule="constant"), max_grad_norm=max_grad_norm)
    optimizer = theirs(plain.body.parameters())
    clipped = 0
    for i in range(STEPS):
        metrics = step(*data(i))
        optimizer.zero_grad()
        error, _ = plain.loss(*data(i))
        error.backward()
        norm = nn.utils.clip_grad_norm_(plain.body.parameters(), max_grad_norm or float("inf"))
        clipped += norm > 0.5
        optimizer.step()
        assert_close(metrics["error"], error.detach(), rtol=1e-4, atol=1e-5)
        assert_close(metrics["gradient/norm"], norm, rtol=1e-4, atol=1e-5)
    assert clipped  # the clip was at work
    for p, q in zip(flat.body.parameters(), plain.body.parameters(), strict=True):
        assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_the_clip_bounds_the_gradient_and_the_metric_tells_its_norm_before():
    step = Net().step(functools.partial(SGD, lr=0.1, schedule="constant", momentum=0.0), max_grad_norm=0.01)
    before = step.theta.clone()
    metrics = step(*data())
    assert metrics["gradient/norm"] > 0.1
    assert_close(step.theta.grad.norm().item(), 0.01, rtol=1e-3, atol=0.0)
    assert_close((step.theta - before).norm().item(), 0.001, rtol=1e-3, atol=0.0)


def test_a_step_that_has_a_name_says_so():
    step = Net().step(functools.partial(SGD, lr=0.1, schedule="constant", momentum=0.0), name="critic")
    assert set(step(*data())) == {"error", "gradient/norm_critic"}


def test_flatten_parameters_keeps_values_and_makes_views():
    net = Net()
    before = [p.detach().clone() for p in net.parameters()]
    flat = flatten_parameters(net.parameters())
    assert flat.shape == (sum(p.numel() for p in before),)
    assert_close(flat, torch.cat([p.flatten() for p in before]))
    for p, old in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, old)
    with torch.no_grad():
        flat.fill_(7.0)
    assert all((p == 7.0).all() for p in net.parameters())
    flat.grad.fill_(2.0)
    assert all((p.grad == 2.0).all() for p in net.parameters())


def test_gradients_do_not_pile_up():
    step = Net().step(functools.partial(SGD, lr=0.0, schedule="constant", momentum=0.0))
    step(*data())
    first = step.theta.grad.clone()
    step(*data())
    assert torch.equal(step.theta.grad, first)
    assert first.abs().sum() > 0


def test_only_its_own_parameters_change():
    net = Net()
    step = GradientStep(
        net,
        net.body[0].parameters(),
        net.loss,
        functools.partial(SGD, lr=0.1, schedule="constant", momentum=0.0),
        max_grad_norm=None,
        compile=False,
    )
    others = [p.detach().clone() for p in net.body[2].parameters()]
    mine = [p.detach().clone() for p in net.body[0].parameters()]
    step(*data())
    assert all(torch.equal(p, q) for p, q in zip(net.body[2].parameters(), others, strict=True))
    assert all(p.grad is None for p in net.body[2].parameters())
    assert not any(torch.equal(p, q) for p, q in zip(net.body[0].parameters(), mine, strict=True))


def assert_compiled_equals_eager():
    sgd = functools.partial(SGD, lr=0.1, schedule="constant", momentum=0.0)
    eager, compiled = Net().step(sgd), Net().step(sgd, compile=True)
    for i in range(3):
        one, two = eager(*data(i)), compiled(*data(i))
        assert_close(compiled.theta.grad, eager.theta.grad, rtol=1e-4, atol=1e-6)
        assert set(one) == set(two)
        for key in one:
            assert_close(two[key], one[key], rtol=1e-4, atol=1e-6)
    assert_close(compiled.theta, eager.theta, rtol=1e-4, atol=1e-6)
    assert eager.compile_seconds == 0.0
    assert compiled.compile_seconds > 0.0


def test_the_functional_gradient_is_the_eager_one(monkeypatch):
    """What is handed to torch's compiler, run without it."""
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: function)
    assert_compiled_equals_eager()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs a C++ compiler")
def test_the_compiled_gradient_is_the_eager_one():
    assert_compiled_equals_eager()


@pytest.mark.parametrize(
    ("schedule", "factor"), [("constant", 1.0), ("linear", 0.75), ("cosine", (2.0 + 2.0**0.5) / 4.0)]
)
def test_the_step_follows_the_schedule(schedule, factor):
    step = Net().step(functools.partial(SGD, lr=0.2, schedule=schedule, momentum=0.0))
    step.set_progress(0.25)
    before = step.theta.clone()
    step(*data())
    assert_close(before - step.theta, 0.2 * factor * step.theta.grad)
    step.set_progress(0.0)
    assert step.optimizer.lr == 0.2


def test_an_unknown_schedule_is_refused():
    with pytest.raises(UserError, match=r"optimizer\.schedule=linaer .* constant, linear, cosine"):
        SGD([torch.zeros(3)], lr=0.1, schedule="linaer", momentum=0.0)


@pytest.mark.parametrize("name", PAIRS)
def test_a_state_put_back_goes_on_as_before(name):
    rule = functools.partial(PAIRS[name][0], lr=0.02, schedule="constant")
    one, two = Net().step(rule), Net().step(rule)
    for i in range(3):
        one(*data(i))
    with torch.no_grad():
        two.theta.copy_(one.theta)
    two.optimizer.load_state_dict({k: v.clone() for k, v in one.optimizer.state_dict().items()})
    for step in (one, two):
        step(*data(9))
    assert torch.equal(one.theta, two.theta)


@pytest.mark.parametrize("torchs", [torch.optim.NAdam, torch.optim.Adagrad, torch.optim.RMSprop])
def test_any_torch_optimizer_may_stand_in(torchs):
    flat, plain = Net(), Net()
    step, optimizer = flat.step(functools.partial(torchs, lr=0.02)), torchs(plain.body.parameters(), lr=0.02)
    step.set_progress(0.5)  # it has no schedule of ours to follow
    for i in range(5):
        step(*data(i))
        optimizer.zero_grad()
        plain.loss(*data(i))[0].backward()
        optimizer.step()
    for p, q in zip(flat.body.parameters(), plain.body.parameters(), strict=True):
        assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_the_base_class_takes_no_step():
    with pytest.raises(NotImplementedError):
        Optimizer([torch.zeros(2)], lr=0.1, schedule="constant").step()
