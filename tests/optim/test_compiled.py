"""Compiled functions: without a compiler, with the compiler's tracer alone, and with the real one."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from compilers import needs_compiler
from running import acting_eagerly, parts
from torch.testing import assert_close

from pgrun.errors import UserError
from pgrun.optim.compiled import Compiled

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
def uncompiled(monkeypatch):
    """A compiler that leaves functions as they are."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)


@pytest.fixture
def tracer(monkeypatch):
    """torch's compiler as far as it traces and guards a function: it runs what it traced without making C++ of it.

    It keeps of each tracing whether sizes became variables, and how much is checked before each call.
    """
    compile, seen = torch.compile, SimpleNamespace(dynamic=[], checks=[])

    def traced(function, *, options, **more):
        def kept(guards):
            keep = options["guard_filter_fn"](guards)
            seen.checks.append(sum(keep))
            return keep

        def run(graph, inputs, **_):
            seen.dynamic.append(any(isinstance(x, torch.SymInt) for x in inputs))
            traced = [node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"]
            sizes = [getattr(x, "shape", ()) for x in traced]  # numbers, or variables

            def code(*args):
                """Run what was traced, for these sizes alone, as compiled code is."""
                for size, x in zip(sizes, args, strict=True):
                    same = [n == m for n, m in zip(size, getattr(x, "shape", ()), strict=True) if isinstance(n, int)]
                    assert all(same), "run for other sizes than it was compiled for"
                return graph(*args)

            return code

        return compile(function, backend=run, options={"guard_filter_fn": kept})

    monkeypatch.setattr(torch, "compile", traced)
    torch.compiler.reset()
    yield seen
    torch.compiler.reset()


def filled(*overrides):
    made = acting_eagerly(parts(*SMALL, *overrides))
    made.collector.env.reset(0)
    for _ in range(17):
        made.memory.add(made.collector.collect(made.algorithm))
    return made


def test_no_gradient_flows_out(uncompiled):
    weight = torch.ones(2, requires_grad=True)
    assert not Compiled(lambda x: (x * weight).sum())(torch.ones(2)).requires_grad


def test_functions_of_different_sizes_are_compiled_each_for_its_own(tracer):
    """Else the compiler would take their sizes for variables: twice the time of a SAC update."""
    for size in (3, 5, 7):
        assert Compiled(lambda x: 2.0 * x)(torch.ones(size)).tolist() == [2.0] * size
    assert tracer.dynamic == [False] * 3


class Owner(torch.nn.Module):
    """Something with all that a loss may read, layer on layer."""

    def __init__(self, layers=1):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(layers)))
        self.register_buffer("mean", torch.zeros(2))
        self.gamma = 0.5

    def forward(self, x, scale):
        out = self.gamma * self.layers(x - self.mean)
        return out if scale is None else scale * out


def test_what_moves_during_a_run_is_not_taken_for_granted(tracer):
    owner = Owner()
    compiled, x = Compiled(owner.forward), torch.randn(4, 2)

    def check(*args):
        with torch.no_grad():
            assert_close(compiled(*args), owner(*args), rtol=0.0, atol=1e-6)

    check(x, None)
    check(x, 3.0)
    check(x, 1.0)
    owner.gamma = 0.9
    check(x, 1.0)
    check(x, 2.0)
    check(torch.randn(6, 2), 2.0)
    with torch.no_grad():
        owner.layers[0].weight.add_(1.0)
    check(x, 2.0)
    owner.mean += 1.0
    check(x, 2.0)
    owner.mean = torch.tensor([[3.0, 4.0]])  # of another shape
    check(x, 2.0)


def test_a_larger_network_costs_no_more_checks(tracer):
    for layers in (1, 6):
        Compiled(Owner(layers).forward)(torch.ones(1, 2), 1.0)
    small, large = tracer.checks
    assert 0 < large <= small


def test_the_first_call_is_what_compiling_took(uncompiled):
    double = Compiled(lambda x: 2 * x)
    assert double.seconds == 0.0
    double(torch.ones(1))
    first = double.seconds
    assert first > 0.0
    double(torch.ones(1))
    assert double.seconds == first


def test_hard_copies_record_nothing_anew(interpreted):
    made = filled("compile=true", "algo.tau=null", "algo.target_every=3")
    (batch,) = made.memory.batches()
    made.algorithm.update(batch)
    recorded = len(interpreted)
    for i in range(2, 8):
        made.algorithm.update(batch)
        assert torch.equal(made.algorithm.theta_target, made.algorithm.critic_step.theta) == (i % 3 == 0)
    assert len(interpreted) == recorded > 0


@pytest.mark.parametrize("compile", ["true", "false"])
def test_targets_have_no_gradient(interpreted, compile):
    made = filled(f"compile={compile}")
    (batch,) = made.memory.batches()
    noise = torch.zeros_like(batch.action)
    assert made.algorithm.target(batch, noise).requires_grad
    y = made.algorithm.critic_step.prepared(batch, noise)[2]
    assert not y.requires_grad
    assert_close(y, made.algorithm.target(batch, noise).detach())
    assert (made.algorithm.compile_seconds > 0.0) == (compile == "true")


def test_without_a_c_compiler_nothing_begins(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"^compile=true needs the C\+\+ compiler 'no-such-compiler': install it"):
        parts("compile=true", "device=cpu")
    parts("compile=false", "device=cpu")


@pytest.mark.slow
@needs_compiler
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
@needs_compiler
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


NORMED = {
    "sac": ("env=pendulum", "network.std=sde"),
    "redq": ("env=pendulum", "memory.updates=1"),
    "d4pg": ("env=pendulum",),
    "sac_discrete": ("env=cartpole",),
    "dqn": ("env=cartpole", "algo.dueling=true"),
    "maddpg": ("env=simple_spread", "num_envs=2", "memory.warmup=34"),
}


@pytest.mark.slow
@pytest.mark.parametrize("algo", NORMED)
def test_recorded_updates_of_normalised_layers_are_the_eager_ones(algo, interpreted):
    found = []
    for compile in ("false", "true"):
        made = filled(f"algo={algo}", *NORMED[algo], "network.layer_norm=true", f"compile={compile}")
        batch = next(iter(made.memory.batches()))
        torch.manual_seed(1)
        for _ in range(3):
            made.algorithm.update(batch)
        found.append(torch.cat([step.theta.flatten() for step in made.algorithm.steps().values()]))
    assert interpreted
    assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)
