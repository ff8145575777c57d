"""Devices and whether to compile, as the config says."""

import pytest
from running import compose

from pgrun.config.resolve import resolved
from pgrun.run.devices import compiles, gradient_steps


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
