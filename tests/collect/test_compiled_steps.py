"""Acting as a compiled function, and stepping with it in worlds of tensors: the same rollouts as without."""

import logging

import pytest
import torch
from compilers import needs_compiler
from running import parts
from torch.testing import assert_close

from pgrun.core.exploration import EpsilonGreedy

SMALL = ("env.backend=tensor", "num_envs=3", "network.hidden=[8]", "device=cpu", "seed=3")


def rollouts(*overrides, n=3):
    made = parts(*SMALL, *overrides)
    return made, [made.collector.collect(made.algorithm) for _ in range(n)]


def assert_same(one, other, tolerance=0.0):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            if isinstance(x, torch.Tensor):
                assert_close(x, y, rtol=tolerance, atol=tolerance)
        assert a.extras.keys() == b.extras.keys()


@pytest.mark.parametrize("env", ["cartpole", "pendulum", "acrobot", "mountain_car", "mountain_car_continuous"])
def test_compiled_steps_are_the_eager_ones(interpreted, env):
    """With the same draws in the same order, over the ends of episodes."""
    recipe = ("algo=ppo", f"env={env}", "algo.rollout=64")
    eager, one = rollouts(*recipe)
    compiled, two = rollouts(*recipe, "compile=true")
    assert compiled.collector.compiled.able
    assert len(interpreted) == 1
    assert_same(one, two)
    assert eager.collector.stats.count == compiled.collector.stats.count
    assert env != "cartpole" or eager.collector.stats.count > 0


@pytest.mark.parametrize("algo", ["a2c", "sac", "td3"])
def test_other_algorithms_too(interpreted, algo):
    env = "cartpole" if algo == "a2c" else "pendulum"
    recipe = (f"algo={algo}", f"env={env}", "algo.rollout=9", "collector.random_steps=6")
    recipe = recipe[:3] if algo == "a2c" else recipe
    assert_same(rollouts(*recipe)[1], rollouts(*recipe, "compile=true")[1])


SCHEDULES = {  # of what is explored by; the number is another one in each rollout
    "dqn": ("env=cartpole", "algo.exploration.epsilon=linear:1:0"),
    "boltzmann": ("env=cartpole", "algo/exploration=boltzmann", "algo.exploration.temperature=linear:1:0.1"),
    "td3": ("env=pendulum", "algo.exploration.sigma=linear:1:0"),
    "ddpg": ("env=pendulum", "algo/exploration=ou", "algo.exploration.sigma=linear:1:0"),
    "ppo": ("env=pendulum", "network.std=state"),
    "a2c": ("env=cartpole",),
    "sac": ("env=pendulum",),
}


@pytest.mark.parametrize("backend", ["sync", "tensor"])
@pytest.mark.parametrize("algo", SCHEDULES)
def test_one_program_acts_for_all_of_a_run(interpreted, algo, backend):
    name = "dqn" if algo == "boltzmann" else algo
    recipe = (f"algo={name}", *SCHEDULES[algo], f"env.backend={backend}", "algo.rollout=5")
    recipe = recipe if algo in ("ppo", "a2c") else (*recipe, "collector.random_steps=0")
    found = []
    for compile in ("false", "true"):
        made, rows = parts(*SMALL, *recipe, f"compile={compile}"), []
        for i in range(12):
            made.algorithm.set_progress(i / 12)
            rows.append(made.collector.collect(made.algorithm))
        found.append(rows)
    assert made.collector.compiled.able
    assert len(interpreted) == 1
    assert_same(*found, 1e-6)


def test_a_run_goes_on_where_it_was(interpreted):
    recipe = ("algo=ppo", "env=cartpole", "algo.rollout=40", "compile=true")
    whole, want = rollouts(*recipe, n=4)
    first, _ = rollouts(*recipe, n=2)
    state = torch.get_rng_state()
    rest = parts(*SMALL, *recipe)
    rest.collector.restore(first.collector.snapshot())
    rest.algorithm.restore(first.algorithm.snapshot())
    torch.set_rng_state(state)
    found = [rest.collector.collect(rest.algorithm) for _ in range(2)]
    assert_same(want[2:], found)
    assert whole.collector.stats.count == rest.collector.stats.count


def test_a_policy_that_decides_by_numbers_acts_as_it_is(interpreted, caplog, monkeypatch):
    monkeypatch.setattr(EpsilonGreedy, "__call__", lambda self, q: q.argmax(-1) if q.sum() > 0 else q.argmin(-1))
    recipe = ("algo=dqn", "env=cartpole", "collector.random_steps=0")
    with caplog.at_level(logging.INFO, "pgrun"):
        assert_same(rollouts(*recipe)[1], rollouts(*recipe, "compile=true")[1])
    assert "acting isn't compiled: it reads a number out of a tensor" in caplog.text
    assert interpreted == []


@pytest.mark.slow
@needs_compiler
def test_compiled_code_acts_as_eager_code():
    recipe = ("algo=ppo", "env=pendulum", "algo.rollout=30")
    one, two = rollouts(*recipe)[1], rollouts(*recipe, "compile=true")[1]
    assert_same(one, two, 1e-4)
