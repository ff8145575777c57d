"""What is handed to torch's compiler, run without it, and the real one."""

import shutil

import pytest
import torch
from running import parts
from torch.testing import assert_close

from pgrun.compiled import Compiled

SMALL = ("algo=sac", "env=pendulum", "memory.warmup=16", "memory.batch_size=8", "network.hidden=[8]", "device=cpu")


@pytest.fixture
def traced(monkeypatch):
    """The functions that came to the compiler, which leaves them as they are."""
    found = []

    def compile(function, **options):
        found.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    return found


def filled(*overrides):
    made = parts(*SMALL, *overrides)
    made.collector.env.reset(0)
    for _ in range(17):
        made.memory.add(made.collector.collect(made.algorithm))
    return made


def test_no_gradient_flows_out(traced):
    weight = torch.ones(2, requires_grad=True)
    assert not Compiled(lambda x: (x * weight).sum())(torch.ones(2)).requires_grad


def test_each_has_a_name_of_its_own(traced):
    """Else the compiler would take their shapes for dynamic: twice the time of a SAC update."""
    parts(*SMALL, "compile=true")
    names = [function.__code__.co_name for function in traced]
    assert len(names) == 4  # three losses and the target
    assert len(set(names)) == len(names)


def test_the_first_call_is_what_compiling_took(traced):
    double = Compiled(lambda x: 2 * x)
    assert double.seconds == 0.0
    double(torch.ones(1))
    first = double.seconds
    assert first > 0.0
    double(torch.ones(1))
    assert double.seconds == first


def test_targets_count_among_what_compiling_took(traced):
    made = filled("compile=true")
    assert made.algorithm.compile_seconds == 0.0
    (batch,) = made.memory.batches()
    made.algorithm.held_target(batch, torch.zeros_like(batch.action))
    assert made.algorithm.compile_seconds > 0.0
    assert sum(step.compile_seconds for step in made.algorithm.steps().values()) == 0.0


def test_what_is_held_has_no_gradient():
    made = filled()
    (batch,) = made.memory.batches()
    noise = torch.zeros_like(batch.action)
    assert made.algorithm.target(batch, noise).requires_grad
    held = made.algorithm.held_target(batch, noise)
    assert not held.requires_grad
    assert_close(held, made.algorithm.target(batch, noise).detach())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs a C++ compiler")
@pytest.mark.parametrize("algo", ["sac", "sac_discrete", "sac_v1", "td3", "d4pg", "dqn"])
def test_compiled_updates_are_the_eager_ones(algo):
    env = "cartpole" if algo in ("dqn", "sac_discrete") else "pendulum"
    found = []
    for compile in ("false", "true"):
        made = filled(f"algo={algo}", f"env={env}", f"compile={compile}")
        batch = next(iter(made.memory.batches()))
        torch.manual_seed(1)
        for _ in range(3):
            made.algorithm.update(batch)
        found.append(torch.cat([step.theta for step in made.algorithm.steps().values()]))
    assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)
