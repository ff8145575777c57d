"""Recordings: what they hold, what they leave as it was, and what can't be recorded."""

import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

from pgrun.errors import CantRecord
from pgrun.optim.program import Program
from pgrun.optim.recording import record

LAYER = torch.nn.Linear(3, 2)


def values(function, *args):
    """Run a recording of a function on the arguments that it was made with; return what it returns, flat."""
    recording = record(function, *args)
    return recording, Program(recording)(list(recording.inputs))


def test_a_recording_computes_what_the_function_does(interpreted):
    def function(x):
        with torch.enable_grad():
            loss = LAYER(x).tanh().square().sum()
        (gradient,) = torch.autograd.grad(loss, [LAYER.weight])
        parts = x.split(2)
        return loss.detach(), {"gradient": gradient, "parts": [part.mean() for part in parts]}

    x = torch.randn(4, 3)
    recording, (loss, gradient, *parts) = values(function, x)
    want, more = function(x)
    assert (loss, parts) == (want, more["parts"])
    assert_close(gradient, more["gradient"], rtol=0.0, atol=0.0)
    assert {id(one) for one in recording.inputs} == {id(x), id(LAYER.weight), id(LAYER.bias)}


def test_what_it_wrote_to_is_as_before(interpreted):
    base, x = torch.zeros(4), torch.ones(2)

    def function(view, x):
        view.detach().add_(x)
        view.mul_(2.0)
        return view.sum()

    recording, (total,) = values(function, base[:2], x)
    assert total == 4.0
    assert base.tolist() == [2.0, 2.0, 0.0, 0.0]  # by the program's run alone
    assert len(recording.written) == 1


def test_draws_are_made_anew_as_without_recording(interpreted):
    generator = torch.Generator().manual_seed(3)

    def function(x):
        noise = torch.empty_like(x).exponential_().log_()
        return x + noise + torch.rand(2, generator=generator), torch.randn_like(x)

    x = torch.ones(2)
    torch.manual_seed(1)
    recording = record(function, x)
    program = Program(recording)
    found = [program(list(recording.inputs)) for _ in range(2)]
    generator.manual_seed(3)
    torch.manual_seed(1)
    for one in found:
        assert_close(one, list(function(x)), rtol=0.0, atol=0.0)
    assert not torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: x if x.sum() > 0 else -x, "it reads a number out of a tensor"),
        (lambda x: torch.bernoulli(x.sigmoid()), "is from numbers that it computed"),
        (lambda x: x.normal_(), "goes into what it was given"),
    ],
)
def test_what_depends_on_numbers_is_refused(function, why):
    state, x = torch.get_rng_state(), torch.ones(3)
    with pytest.raises(CantRecord, match=why):
        record(function, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert x.tolist() == [1.0] * 3


def test_memory_that_two_tensors_share_may_not_be_written_to():
    x = torch.zeros(4)
    with pytest.raises(CantRecord, match="have in common"):
        record(lambda a, b: (b.sum(), a.add_(1.0), b.sum()), x[:3], x[1:])


def test_equal_texts_are_equal_computations():
    def text(scale, n=2):
        return record(lambda x: x * scale, torch.ones(n)).text()

    assert text(2.0) == text(2.0)
    assert len({text(2.0), text(3.0), text(2.0, 3)}) == 3


def test_recording_loads_no_compiler():
    """It would take a second at the start of each run."""
    program = """
import sys, torch
from pgrun.optim.recording import record
layer = torch.nn.Linear(2, 2)
def function(x):
    with torch.enable_grad():
        loss = layer(x).sum()
    return torch.autograd.grad(loss, list(layer.parameters()))
assert record(function, torch.ones(1, 2)).operations
print("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
