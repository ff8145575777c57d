"""Loops: a recorded function that a program calls several times in a row."""

import pytest
import torch
from compilers import needs_compiler
from running import parts
from torch.testing import assert_close

from pgrun.errors import CantRecord
from pgrun.optim.compiled import RecordedLoop


def test_each_call_has_its_row_and_what_the_one_before_wrote(interpreted):
    total = torch.zeros(2)

    def step(row, scale, x):
        total.add_(scale * row[0])
        return total + row[1], {"twice": 2 * x}

    loop = RecordedLoop(step)
    row = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([0.1, 0.2, 0.3])
    sums, more = loop(row, 10.0, torch.ones(1))
    assert_close(sums, torch.tensor([[10.1, 20.1], [40.2, 60.2], [90.3, 120.3]]))
    assert more["twice"].tolist() == [[2.0]] * 3
    assert total.tolist() == [90.0, 120.0]
    assert len(interpreted) == 1
    loop((row[0][:2], row[1][:2]), 10.0, torch.ones(1))
    assert len(interpreted) == 2  # of another number of calls


def test_draws_come_in_the_order_of_the_calls(interpreted):
    def step(row):
        first = torch.rand(2)
        return row + first, torch.randn(1)

    torch.manual_seed(5)
    want = [step(torch.tensor(float(i))) for i in range(3)]
    torch.manual_seed(5)
    found = RecordedLoop(lambda row: step(row[0]))((torch.arange(3.0),))
    for i in (0, 1):
        assert_close(found[i], torch.stack([x[i] for x in want]), rtol=0.0, atol=0.0)


SMALL = ("algo=ppo", "env=cartpole", "num_envs=4", "algo.rollout=16", "network.hidden=[8]", "device=cpu")


def moved(*overrides):
    made = parts(*SMALL, *overrides)
    rollout = made.collector.collect(made.algorithm)
    before = made.algorithm.step.theta.clone()
    torch.manual_seed(2)
    metrics = made.algorithm.update(rollout)
    return made.algorithm.step.theta - before, metrics, torch.get_rng_state()


@pytest.mark.parametrize(
    "more",
    [
        ("algo.minibatch=16",),
        ("algo.minibatch=64",),
        ("algo.minibatch=16", "algo.critic_lr=1e-2", "optimizer.schedule=linear"),
        ("algo=vmpo", "algo.epochs=3", "algo.minibatch=16"),
    ],
    ids=lambda x: " ".join(x),
)
def test_all_epochs_in_one_program_are_the_eager_ones(interpreted, more):
    one, metrics, state = moved(*more)
    two, others, drawn = moved(*more, "compile=true")
    assert_close(two, one, rtol=1e-4, atol=1e-6)
    assert metrics.keys() == others.keys()
    for key, x in metrics.items():
        assert_close(others[key], x, rtol=1e-3, atol=1e-5, msg=key)
    assert torch.equal(state, drawn)
    assert interpreted


@pytest.mark.slow
@needs_compiler
def test_compiled_epochs_are_the_eager_ones():
    assert_close(moved("compile=true")[0], moved()[0], rtol=1e-3, atol=1e-5)


def test_epochs_that_cant_be_recorded_go_on_one_by_one(interpreted, monkeypatch):
    """With the draws and rates that were made for the program."""
    one, _, state = moved("algo.minibatch=16")
    monkeypatch.setattr(RecordedLoop, "plan", refuse)
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: function)
    two, _, drawn = moved("algo.minibatch=16", "compile=true")
    assert_close(two, one, rtol=1e-4, atol=1e-6)
    assert torch.equal(state, drawn)


def refuse(self, args, leaves):
    raise CantRecord("a test")
