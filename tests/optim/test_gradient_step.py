import functools

import pytest
import torch
from compilers import needs_compiler
from stepping import Net, data
from torch.testing import assert_close

from pgrun.optim.compiled_step import TracedStep
from pgrun.optim.gradient_step import GradientStep
from pgrun.optim.rules import SGD, Adam
from pgrun.optim.vectors import flatten_parameters


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
        before = eager.theta.clone(), compiled.theta.clone()
        one, two = eager(*data(i)), compiled(*data(i))
        moved = eager.theta - before[0], compiled.theta - before[1]
        assert_close(moved[0], -0.1 * eager.theta.grad)
        assert_close(moved[1], moved[0], rtol=1e-4, atol=1e-6)
        assert set(one) == set(two)
        for key in one:
            assert_close(two[key], one[key], rtol=1e-4, atol=1e-6)
    assert_close(compiled.theta, eager.theta, rtol=1e-4, atol=1e-6)
    assert eager.compile_seconds == 0.0
    assert compiled.compile_seconds > 0.0


def test_the_recorded_step_is_the_eager_one(interpreted):
    """The graph that is handed to torch's compiler, run without it."""
    assert_compiled_equals_eager()
    assert len(interpreted) == 1


def test_a_step_on_other_sizes_each_time_is_traced(interpreted, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: function)
    settings = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "decoupled": False}
    adam = functools.partial(Adam, lr=0.1, schedule="constant", **settings)
    eager, compiled = Net().step(adam), Net().step(adam, compile=True)
    for n in (8, 7, 6, 5, 4):
        x, y = (part[:n] for part in data(n))
        eager(x, y)
        compiled(x, y)
        assert isinstance(compiled.compiled, TracedStep) == (n < 6)
    assert_close(compiled.theta, eager.theta, rtol=1e-4, atol=1e-6)
    assert compiled.optimizer.state["t"] == 5  # the step that couldn't be recorded counts once
    assert len(interpreted) == 3
    assert compiled.compile_seconds > compiled.compiled.before > 0.0


def test_the_traced_step_is_the_eager_one(monkeypatch):
    """The functions that torch's compiler traces for GPUs, run without it."""
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: function)
    monkeypatch.setattr("pgrun.optim.gradient_step.RecordedStep", TracedStep)
    assert_compiled_equals_eager()


@pytest.mark.slow
@needs_compiler
def test_the_compiled_gradient_is_the_eager_one():
    assert_compiled_equals_eager()
