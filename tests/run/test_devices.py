"""Devices and whether to compile, as the config says."""

import pytest
import torch
from running import compose, parts

from pgrun.config.resolve import resolved
from pgrun.errors import UserError
from pgrun.run.devices import captures, compiles, gradient_steps

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (("algo=ppo", "num_envs=8", "algo.rollout=32", "algo.epochs=20", "algo.minibatch=256"), 7_812.5),
        (("algo=ppo", "num_envs=8", "algo.rollout=32", "algo.epochs=4", "algo.minibatch=64"), 6_250.0),
        (("algo=a2c", "num_envs=8"), 2_500.0),
        (("algo=sac", "env=pendulum", "num_envs=1", "algo.rollout=1", "memory.updates=1"), 100_000.0),
        (("algo=dqn", "num_envs=1", "algo.rollout=256", "memory.updates=128"), 50_000.0),
        (("algo=reinforce",), 97.65625),
    ],
)
def test_gradient_steps_are_estimated_from_the_config(overrides, steps):
    config = resolved(compose("tuned=none", "total_steps=100_000", *overrides))
    assert gradient_steps(config) == steps
    config.compile = "auto"
    assert compiles(config) == (steps >= 50_000)
    config.compile = True
    assert compiles(config)


def test_graphs_are_for_long_runs_of_one_process_on_a_gpu():
    many = ("algo=sac", "env=pendulum", "num_envs=1", "algo.rollout=1", "memory.updates=1", "total_steps=100_000")
    assert not captures(resolved(compose(*many)), GPU)
    many = (*many, "graph=auto")
    assert captures(resolved(compose(*many)), GPU)
    assert not captures(resolved(compose(*many)), CPU)
    assert not captures(resolved(compose(*many, "total_steps=10_000")), GPU)
    assert not captures(resolved(compose(*many, "graph=false")), GPU)
    assert captures(resolved(compose("algo=reinforce", "graph=true")), GPU)
    assert not captures(resolved(compose(*many, "parallel=ddp", "workers=2")), GPU)
    older = resolved(compose(*many))
    del older.graph
    assert not captures(older, GPU)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_graphs_without_a_gpu_are_refused(device):
    says = "^graph=true captures CUDA graphs, and this run learns on the CPU: use device=cuda, or graph=auto$"
    with pytest.raises(UserError, match=says):
        parts("algo=a2c", "network.hidden=[8]", "graph=true", f"device={device}")


def test_graphs_of_several_processes_are_refused():
    config = resolved(compose("algo=a2c", "graph=true", "parallel=ddp", "workers=2"))
    with pytest.raises(UserError, match=r"^graph=true is for a run of one process: use workers=1, or graph=auto$"):
        captures(config, GPU)
