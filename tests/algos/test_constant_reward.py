"""Where every step pays 1 and a time limit cuts after eight, whatever learns a value comes to 1/(1 − γ) = 50."""

from typing import Any

import gymnasium as gym
import pytest
import torch
from probes import run
from recipes import sampled
from running import parts
from torch import Tensor

from pgrun.config.paths import config_dir
from pgrun.data.types import Transition

ALGORITHMS = sorted(path.stem for path in (config_dir() / "algo").glob("*.yaml"))
SMALL = ("network=mlp", "network.hidden=[]", "algo.gamma=0.98", "num_envs=8", "optimizer.schedule=linear")
STEPS = (*SMALL, "optimizer=adam", "optimizer.lr=0.5", "env=gym", "env.id=ProbeSteady-v0")
NUMBERS = ("+env.kwargs.continuous=true",)
SLOW = (*NUMBERS, "algo.actor_lr=1e-3")  # what the action adds to Q stays small
REPLAY = ("algo.rollout=1", "memory.warmup=64", "memory.batch_size=16", "memory.updates=1", "total_steps=3200")
TARGET = (*REPLAY, "algo.tau=1")
COLD = (*TARGET, *NUMBERS, "algo.init_temperature=1e-8")  # so that the entropy is no part of the value
EPOCHS = ("algo.rollout=8", "algo.minibatch=32", "algo.epochs=2", "total_steps=4800")
FITTED = ("algo.rollout=8", "algo.critic_fit.minibatch=32", "algo.critic_fit.epochs=6", "total_steps=3200")
AGENTS = (*SMALL, "optimizer.lr=0.5", "env=pettingzoo", "env.id=agents:Steady")
OLD = ("memory.capacity=8", "memory.warmup=0", "memory.replay_ratio=1")
SUM = ("algo.advantage.weights.td=1.5", "algo.advantage.weights.nstep=-2", "algo.advantage.weights.gae=0.25")
MEMORY = (
    *("network.hidden=[4]", "network.size=4", "optimizer.lr=0.2", "total_steps=6400"),
    *("memory.length=4", "memory.stride=2", "memory.burn_in=2"),
)
APART = ("network.size=16", "network.init_gain=3", "optimizer.lr=0.05", "total_steps=12800")
RECIPES: dict[str, tuple[str, ...]] = {
    "reinforce algo/baseline=value": (*STEPS, "collector.episodes=8", "total_steps=12800"),
    "actor_critic": (*STEPS, "algo.rollout=2", "total_steps=4800"),
    "a2c": (*STEPS, "total_steps=6400"),
    "a2c algo/advantage=q": (*STEPS, "total_steps=6400"),
    "a2c algo/advantage=a": (*STEPS, "total_steps=6400"),
    "a2c algo/advantage=gae": (*STEPS, "total_steps=6400"),
    "a2c algo/advantage=vtrace": (*STEPS, "total_steps=6400"),
    "a2c algo/advantage=vtrace memory=trajectories": (*STEPS, *OLD, "total_steps=6400"),
    "offpolicy_pg algo/advantage=vtrace": (*STEPS, "algo.weights=none", "algo.rollout=4", "total_steps=2400"),
    "a2c algo/advantage=mixture": (*STEPS, *SUM, "total_steps=6400"),
    "a2c algo/advantage=mixture algo.advantage.weights.a=-1": (*STEPS, *SUM, "total_steps=6400"),
    "ppo algo/advantage=q": (*STEPS, *NUMBERS, *EPOCHS),
    "a2c algo/advantage=a +env.kwargs.continuous=true": (*STEPS, "total_steps=6400"),
    "trpo algo/advantage=q algo.advantage.dueling=false": (*STEPS, *NUMBERS, *FITTED),
    "a3c": (*STEPS, "workers=1", "total_steps=6400"),
    "acktr": (*STEPS, "algo.rollout=4", "total_steps=6400"),
    "acer": (*STEPS, "algo.rollout=4", "total_steps=4800", "memory.capacity=8"),
    "offpolicy_pg": (*STEPS, "algo.rollout=4", "total_steps=2400"),
    "ppo": (*STEPS, *EPOCHS),
    "ppo_kl": (*STEPS, *EPOCHS),
    "mdpo": (*STEPS, *EPOCHS),
    "vmpo": (*STEPS, *EPOCHS),
    "vpg": (*STEPS, *FITTED),
    "npg": (*STEPS, *FITTED),
    "trpo": (*STEPS, *FITTED),
    "trpo algo/critic_fit=trust_region": (*STEPS, "algo.rollout=8", "algo.critic_fit.delta=1", "total_steps=6400"),
    "dppo": (*STEPS, *FITTED, "workers=1", "parallel=none"),
    "dpg": (*STEPS, *SLOW, "algo.rollout=2", "total_steps=4800"),
    "dpg_offpolicy": (*STEPS, *SLOW, "algo.rollout=2", "total_steps=4800"),
    "ddpg": (*STEPS, *SLOW, *TARGET),
    "td3": (*STEPS, *SLOW, *TARGET),
    "d4pg": (*STEPS, *SLOW, *TARGET, "algo.atoms=101", "algo.v_min=-50", "algo.v_max=90"),
    "sac": (*STEPS, *COLD, "algo.target_entropy=-1000"),
    "redq": (*STEPS, *COLD, "algo.target_entropy=-1000", "algo.critics=3"),
    "sac_v1": (*STEPS, *TARGET, *NUMBERS, "algo.temperature=1e-8", "algo.reward_scale=1"),
    "mdpo_offpolicy": (*STEPS, *COLD),
    "sac_discrete": (*STEPS, *TARGET, "algo.init_temperature=1e-8", "algo.entropy_fraction=0.01"),
    "dqn": (*STEPS, *TARGET, "algo.target_every=1", "algo.double=false"),
    "dqn algo.double=true": (*STEPS, *TARGET, "algo.target_every=1", "algo.dueling=true", "network.hidden=[4]"),
    "sql": (*STEPS, *TARGET, "algo.temperature=1e-4"),
    "sql algo.sampler=mcmc": (*STEPS, *NUMBERS, *TARGET, "algo.temperature=1e-4", "algo.langevin_steps=1"),
    "a2c algo.critic_lr=linear:1:0": (*STEPS, "optimizer.lr=1e-3", "total_steps=6400"),
    "ppo algo.value_clip=10": (*STEPS, *EPOCHS),
    "ppo algo/advantage=q network.std=state network.squash=true": (*STEPS, *NUMBERS, *EPOCHS),
    "sac algo.tau=null algo.target_every=3": (*STEPS, *COLD, "algo.target_entropy=-1000"),
    "td3 algo.tau=null algo.target_every=3": (*STEPS, *SLOW, *TARGET),
    "sql algo.proposal=policy": (*STEPS, *NUMBERS, *TARGET, "algo.temperature=1e-4"),
    "td3 network=gru memory=sequences": (*STEPS, *SLOW, *TARGET, *MEMORY),
    "td3 network=lstm memory=sequences": (*STEPS, *SLOW, *TARGET, *MEMORY),
    # Here an LSTM must soon tell an episode's first state from the others. As long as their features are as r : 1, the
    # fit of eight steps, the last of them cut and not ended, is drawn to (7 + r) / (7(1 − γ) − γr + r²), 266 at 0.85
    "dqn network=lstm memory=sequences": (*STEPS, *TARGET, *MEMORY, *APART, "algo.target_every=1"),
    "dqn network=gru memory=prioritized_sequences": (
        *(*STEPS, *TARGET, *MEMORY, "algo.target_every=1", "optimizer.lr=0.1"),
    ),
    "maddpg": (*AGENTS, *TARGET),
    "iddpg": (*AGENTS, *TARGET),
}  # fmt: skip
WITHOUT = {"reinforce", "grpo", "gps", "behaviour_cloning"}  # which learn no value


def words(name: str) -> list[str]:
    algo, *more = name.split()
    return [f"algo={algo}", *RECIPES[name], *more]


@torch.no_grad()
def values(algorithm: Any) -> dict[str, Tensor]:
    """Return the values that an algorithm's critics give the only observation, by name."""
    space, found = algorithm.obs_space, {}
    several = isinstance(space, gym.spaces.Dict)
    obs: Any = {key: torch.ones(1, 2) for key in space} if several else torch.ones(1, *space.shape)
    action, *_ = algorithm.act(obs, algorithm.initial_carry(1), False)
    if getattr(algorithm, "recurrent", False):
        obs = algorithm.recall(obs, algorithm.initial_carry(1))[0]
    model = getattr(algorithm, "model", None)
    if model is not None and model.critic is not None:
        none = torch.zeros(1)
        found["V"] = model.state_value(Transition(obs, action, none, none, obs, none > 0, none < 1, {}))
    for name in ("v", "v_target"):
        if hasattr(algorithm, name):
            found[name] = getattr(algorithm, name)(obs)
    for name in ("q", "q_target"):
        if hasattr(algorithm, name):
            q = getattr(algorithm, name)(obs, action)
            found[name] = q.softmax(-1) @ algorithm.z if hasattr(algorithm, "z") else q
    return {name: x.flatten() for name, x in found.items()}


QUICK = ("a2c", "trpo", "offpolicy_pg", "dqn", "d4pg", "sac_discrete")


@pytest.mark.parametrize("name", sampled(list(RECIPES), QUICK))
def test_the_value_of_a_constant_reward(name):
    made, _ = run(*words(name))
    found = values(made.algorithm)
    assert found
    for value in found.values():
        assert value.tolist() == pytest.approx(torch.full_like(value, 50.0).tolist(), abs=1.0)


def test_every_algorithm_that_learns_a_value_is_tried():
    assert {name.split()[0] for name in RECIPES} | WITHOUT == set(ALGORITHMS)
    for algo in WITHOUT - {"behaviour_cloning"}:
        assert not values(parts(f"algo={algo}", "env=cartpole").algorithm)
