"""What is handed to torch's compiler, run without it, and the real one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from running import parts
from torch.testing import assert_close

from pgrun.errors import UserError
from pgrun.optim.compiled import Compiled, which_may_change

PROGRAM = """
import torch
from pgrun.optim.compiled import Compiled
from pgrun.errors import UserError
try:
    print(Compiled(lambda x: x + x)(torch.ones(64)).sum())
except UserError as error:
    print(error)
"""

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
    made = filled("compile=true")
    (batch,) = made.memory.batches()
    made.algorithm.update(batch)
    names = [function.__code__.co_name for function in traced]
    assert len(names) == 3  # critics, actor, temperature
    assert len(set(names)) == len(names)


def test_the_first_call_is_what_compiling_took(traced):
    double = Compiled(lambda x: 2 * x)
    assert double.seconds == 0.0
    double(torch.ones(1))
    first = double.seconds
    assert first > 0.0
    double(torch.ones(1))
    assert double.seconds == first


@pytest.mark.parametrize("compile", ["true", "false"])
def test_targets_have_no_gradient(traced, compile):
    made = filled(f"compile={compile}")
    (batch,) = made.memory.batches()
    noise = torch.zeros_like(batch.action)
    assert made.algorithm.target(batch, noise).requires_grad
    y = made.algorithm.critic_step.prepared(batch, noise)[2]
    assert not y.requires_grad
    assert_close(y, made.algorithm.target(batch, noise).detach())
    assert (made.algorithm.compile_seconds > 0.0) == (compile == "true")


def test_numbers_that_move_are_looked_at():
    """Of what the compiler took for granted it goes on looking at arguments, numbers, and tensors but parameters."""

    class Guard:
        def __init__(self, name, value, is_global=False):
            self.name, self.value, self.is_global = name, value, is_global

    number, weight = torch.zeros(2), torch.nn.Parameter(torch.zeros(2))
    guards = {
        Guard("args[0].reward", number): True,
        Guard("args[1]", weight): True,
        Guard("function.__self__.gamma", 0.9): True,
        Guard("function.__self__._buffers['mean']", number): True,
        Guard("", object()): True,
        Guard("function.__self__._parameters['w']", weight): False,
        Guard("function.__self__", made := object()): False,
        Guard("G['torch']", made, is_global=True): False,
    }
    assert which_may_change(list(guards)) == list(guards.values())


def test_without_a_c_compiler_nothing_begins(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"^compile=true needs the C\+\+ compiler 'no-such-compiler': install it"):
        parts("compile=true", "device=cpu")
    parts("compile=false", "device=cpu")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs a C++ compiler")
def test_what_a_killed_compile_left_is_one_line(tmp_path):
    """Its libraries cut short, as when the process that wrote them was killed."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}

    def double():
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parent)

    assert double().stdout == "tensor(128.)\n"
    for library in tmp_path.rglob("*.so"):
        library.write_bytes(library.read_bytes()[:100])
    (line,) = double().stdout.splitlines()
    assert line.startswith("compile=true: torch's compiler failed (")
    assert f"remove {tmp_path}" in line


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs a C++ compiler")
@pytest.mark.parametrize("algo", ["sac", "sac_discrete", "sac_v1", "redq", "td3", "d4pg", "dqn"])
@pytest.mark.parametrize("precision", ["highest", "bfloat16"])
def test_compiled_updates_are_the_eager_ones(algo, precision):
    env = "cartpole" if algo in ("dqn", "sac_discrete") else "pendulum"
    exact = precision == "highest"
    wide = () if exact else (f"matmul_precision={precision}", "network.hidden=[64,64]", "memory.batch_size=64")
    more = ("memory.updates=1",) if algo == "redq" else ()  # else its policy would not move
    found = []
    for compile in ("false", "true"):
        made = filled(f"algo={algo}", f"env={env}", f"compile={compile}", *wide, *more)
        batch = next(iter(made.memory.batches()))
        torch.manual_seed(1)
        for _ in range(3):
            made.algorithm.update(batch)
        found.append(torch.cat([step.theta for step in made.algorithm.steps().values()]))
    assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)
