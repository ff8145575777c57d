import functools
from typing import Any

import pytest
import torch
from stepping import Net, data
from torch import nn
from torch.testing import assert_close

from pgrun.errors import UserError
from pgrun.optim.rules import SGD, Adam, Optimizer, RMSprop

STEPS = 20
ADAM: dict[str, Any] = {"betas": (0.8, 0.95), "eps": 1e-3}


class HandRMSprop(torch.optim.Optimizer):
    """ε inside the root, as TensorFlow has it; torch.optim's puts it outside."""

    def __init__(self, params, lr, alpha, eps, initial_square):
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "initial": initial_square})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                v = self.state[p].get("v", torch.full_like(p, group["initial"]))
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
        functools.partial(RMSprop, alpha=0.9, eps=1e-3, initial_square=1.0),
        functools.partial(HandRMSprop, alpha=0.9, eps=1e-3, initial_square=1.0),
    ),
    "rmsprop_from_0": (  # with an ε that is nothing beside v it is torch's own
        functools.partial(RMSprop, alpha=0.9, eps=1e-12, initial_square=0.0),
        functools.partial(torch.optim.RMSprop, alpha=0.9, eps=1e-12),
    ),
}


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


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
@pytest.mark.parametrize("name", PAIRS)
def test_the_rules_by_pieces_are_the_flat_ones(name, max_grad_norm, monkeypatch):
    """Run the rule that a compiled step applies to each parameter by itself, without the compiler."""
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: function)
    rule = functools.partial(PAIRS[name][0], lr=0.02, schedule="linear")
    flat, pieces = (Net().step(rule, max_grad_norm=max_grad_norm, compile=compile) for compile in (False, True))
    for i in range(STEPS):
        for step in (flat, pieces):
            step.set_progress(i / STEPS)
        one, two = flat(*data(i)), pieces(*data(i))
        assert_close(two["gradient/norm"], one["gradient/norm"], rtol=1e-4, atol=1e-5)
    assert not pieces.theta.grad.any()  # it went the other way
    assert_close(pieces.theta, flat.theta, rtol=1e-4, atol=1e-5)
    theirs = pieces.optimizer.state_dict()
    for key, x in flat.optimizer.state_dict().items():
        assert_close(theirs[key], x, rtol=1e-4, atol=1e-5)


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
    with pytest.raises(ValueError, match=r"optimizer\.schedule=linaer .* constant, linear, cosine"):
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


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_rates_ahead_are_those_of_the_next_steps(name, apart, kept):
    one, two = (PAIRS[name][0]([torch.zeros(4)], lr=0.02, schedule="linear") for _ in range(2))
    for rule in (one, two):
        if apart:
            rule.separate(slice(1, 3), 0.005)
        if kept:
            rule.keep_rates()
        rule.set_progress(0.3)
        rule.rates()
    ahead, singly = one.rates_ahead(3), [two.rates() for _ in range(3)]
    assert len(ahead) == 1 + apart
    for rates, found in zip(ahead, zip(*singly, strict=True), strict=True):
        assert torch.equal(rates, torch.stack(found))
    assert all(torch.equal(x, two.state[key]) for key, x in one.state.items())


def test_the_base_class_takes_no_step():
    base = Optimizer([torch.zeros(2)], lr=0.1, schedule="constant")
    with pytest.raises(NotImplementedError):
        base.step()
    with pytest.raises(NotImplementedError):
        base.move(base.theta, base.theta, {}, base.rates())


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PAIRS)
def test_a_part_with_a_rate_of_its_own_is_torchs_second_group(name, compile):
    ours, theirs = PAIRS[name]
    flat, plain = Net(), Net()
    first, second = plain.body[0].parameters(), plain.body[2].parameters()
    rule = functools.partial(ours, lr="linear:0.04:0", schedule="constant")
    step = flat.step(rule, compile=compile, apart=(flat.body[2].parameters(), 0.005))
    optimizer = theirs([{"params": [*first]}, {"params": [*second], "lr": 0.005}], lr=0.04)
    for i in range(STEPS):
        step.set_progress(i / STEPS)
        optimizer.param_groups[0]["lr"] = 0.04 * (1.0 - i / STEPS)
        assert step.rates == pytest.approx([0.04 * (1.0 - i / STEPS), 0.005])
        step(*data(i))
        optimizer.zero_grad()
        plain.loss(*data(i))[0].backward()
        optimizer.step()
    for p, q in zip(flat.body.parameters(), plain.body.parameters(), strict=True):
        assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_a_part_in_the_middle_leaves_both_sides_to_the_first_rate():
    theta = torch.arange(6.0)
    theta.grad = torch.ones(6)
    rule = SGD([theta], lr=0.5, schedule="linear", momentum=0.0)
    rule.separate(slice(2, 4), 0.25)
    rule.set_progress(0.5)
    rule.step()
    assert_close(torch.arange(6.0) - theta, torch.tensor([0.25, 0.25, 0.125, 0.125, 0.25, 0.25]))


def test_one_rate_for_all_is_what_torchs_own_optimizers_have():
    net = Net()
    with pytest.raises(UserError, match=r"torch's NAdam .* use optimizer=adam"):
        net.step(functools.partial(torch.optim.NAdam, lr=0.1), apart=(net.body[2].parameters(), 0.1))
