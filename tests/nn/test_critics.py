"""A network of the user's own is used wherever an algorithm reads observations, or refused by name."""

import pytest
import torch
from recipes import sampled
from running import parts
from sines import Own, Same, Sines
from torch import nn

from pgrun.errors import UserError
from pgrun.loop.train import Clock, train
from pgrun.nn.layers import flat_size

CONTINUOUS = {
    "sac": 3,  # how many encoders it has, without slow copies
    "sac_v1": 4,
    "redq": 11,
    "td3": 3,
    "ddpg": 2,
    "d4pg": 2,
    "sql": 2,
    "mdpo_offpolicy": 3,
    "dpg": 2,
    "dpg_offpolicy": 2,
}
DISCRETE = {"dqn": 1, "sql": 1, "sac_discrete": 3}
ON_POLICY = {"ppo": 2, "acer": 2, "reinforce": 1}
CASES = [
    *((name, "pendulum", n) for name, n in CONTINUOUS.items()),
    *((name, "cartpole", n) for name, n in (DISCRETE | ON_POLICY).items()),
]


def made(name, env, kind):
    replay = ["memory.warmup=16", "memory.capacity=200"] if (CONTINUOUS | DISCRETE).get(name) and name != "dpg" else []
    small = ["num_envs=2", "network.hidden=[8]", "total_steps=64", *replay]
    if name == "dpg_offpolicy":
        small = small[:3]
    return parts(f"algo={name}", f"env={env}", f"network._target_={kind.__module__}.{kind.__name__}", *small)


@pytest.mark.parametrize(("name", "env", "n"), sampled(CASES, 2))
def test_every_network_that_reads_observations_is_the_users(name, env, n):
    run = made(name, env, Own)
    slow = ("target", "average", "_k")
    own = {k for k, m in run.algorithm.named_modules() if isinstance(m, Sines) and not any(s in k for s in slow)}
    assert len({id(run.algorithm.get_submodule(k)) for k in own}) == n, own
    widths = {tuple(m.shape) for m in run.algorithm.parameters() if m.dim() > 1}
    sees = flat_size(run.algorithm.obs_space)
    first = {(6, sees)}
    assert not {shape for shape in widths - first if shape[-2:] in ((8, sees), (sees, 8), (sees + 1, 8), (8, sees + 1))}


@pytest.mark.parametrize(
    ("name", "env"),
    [("sac", "pendulum"), ("td3", "pendulum"), ("d4pg", "pendulum"), ("sql", "pendulum"), ("dqn", "cartpole")],
)
def test_the_users_encoder_learns_in_the_critics(name, env):
    run = made(name, env, Own)
    encoders = [m for k, m in run.algorithm.named_modules() if isinstance(m, Sines) and "target" not in k]
    before = [m.layer.weight.clone() for m in encoders]
    train(run.algorithm, run.collector, run.memory, Clock(64), [])
    run.collector.env.close()
    assert all(not torch.equal(b, m.layer.weight) for b, m in zip(before, encoders, strict=True))


def test_a_subclass_with_the_encoder_of_mlp_is_one_batched_product():
    run = made("sac", "pendulum", Same)
    assert isinstance(run.algorithm.q.weights, nn.ParameterList)


def test_several_agents_refuse_an_encoder_by_name():
    with pytest.raises(UserError, match="the encoder of Own has no place") as caught:
        parts("algo=maddpg", "env=simple_spread", "network._target_=sines.Own")
    assert "\n" not in str(caught.value)
