"""Every recipe, as small as it gets, with an environment that it can act in."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from running import compose

from pgrun.collect.demonstrations import with_log_prob
from pgrun.collect.episodes import Episodes
from pgrun.config.paths import config_dir
from pgrun.envs.episode_file import episodes, save
from pgrun.run.build import build


def sampled(cases: Sequence[Any], keep: Collection[Any] | int) -> list[Any]:
    """Mark as slow the cases that the default command leaves out.

    Args:
        cases: what to parametrise with; a tuple is of several arguments.
        keep: those that stay in the default command; a number n keeps every n-th, the first among them.
    """
    kept = cases[::keep] if isinstance(keep, int) else keep
    absent = [each for each in kept if each not in cases]
    assert not absent, f"there is no case {absent}"
    marks: dict[bool, Any] = {True: (), False: pytest.mark.slow}
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks[case in kept]) for case in cases]


ALGORITHMS = sorted(path.stem for path in (config_dir() / "algo").glob("*.yaml"))
CLASSES = {
    algo: get_object(OmegaConf.load(config_dir() / "algo" / f"{algo}.yaml").algo._target_) for algo in ALGORITHMS
}


def acting_in(space: type[gym.Space]) -> set[str]:
    """The algorithms that act in spaces of this kind alone."""
    return {algo for algo, cls in CLASSES.items() if cls.action_spaces == (space,)}


# one of each kind of update, memory and collector; the others are for the longer tests
QUICK = ("reinforce", "a2c", "acer", "offpolicy_pg", "td3", "dqn", "gps", "maddpg")
SAMPLED = sampled(ALGORITHMS, QUICK)
OF_NUMBERS, OF_CHOICES, OF_AGENTS = (
    acting_in(space) for space in (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.Dict)
)
OF_STEPS = {algo for algo, cls in CLASSES.items() if cls.learns_from == "steps"}  # with a replay
OF_EPISODES = {"reinforce", "grpo", "gps"}


def recipe(algo: str, discrete: str, numbers: str, agents: str = "env=simple_spread") -> list[str]:
    """Overrides for a few quick updates; the last three are those that choose an environment."""
    words = [f"algo={algo}", "network=mlp", "network.hidden=[8]", "num_envs=4", "workers=1"]
    keys = compose(f"algo={algo}")
    words += ["algo.rollout=5"] if keys.algo.get("rollout") and "episodes" not in keys.collector else []
    words += ["parallel=none"] if algo in ("a3c", "dppo") else []
    words += ["memory.warmup=12", "memory.batch_size=8"] if "batch_size" in keys.memory else []
    words += ["algo.minibatch=8"] if "minibatch" in keys.algo else []
    words += ["algo.group=2"] if "group" in keys.algo else []
    words += ["collector.episodes=4"] if "episodes" in keys.collector else []
    return words + (agents if algo in OF_AGENTS else numbers if algo in OF_NUMBERS else discrete).split()


def demonstrations(path: Path, *env: str) -> str:
    """Record a few episodes of a random policy; -> the override that names the file."""
    made = build(compose("algo=ppo", "num_envs=2", "network.hidden=[4]", *env))
    rollout = Episodes(env=made.collector.env, episodes=4, device="cpu", seed=0).collect(made.algorithm)
    assert rollout is not None
    data = with_log_prob(episodes(rollout))
    data = data._replace(extras={"log_prob": torch.zeros_like(data.reward)})
    spaces = {"obs_space": made.algorithm.obs_space, "action_space": made.algorithm.action_space}
    save(path, data, env_id="", **spaces)
    return f"demonstrations={path}"


SMALL = ["network=mlp", "network.hidden=[16]"]
FEW_UPDATES = {  # runs of a few updates: an algorithm, and what is said of it, by overrides
    "reinforce": [*SMALL, "env=cartpole", "num_envs=4", "total_steps=600"],
    "a2c": [*SMALL, "env=cartpole", "num_envs=4", "total_steps=400"],
    "actor_critic with q": [*SMALL, "env=cartpole", "num_envs=4", "algo/advantage=q", "total_steps=400"],
    "a2c with a sum": [
        *(*SMALL, "env=pendulum", "num_envs=4", "algo/advantage=mixture", "algo.advantage.weights.td=-0.5"),
        *("algo.advantage.weights.vtrace=1", "algo.advantage.weights.q=0.7", "total_steps=400"),
    ],
    "reinforce with the optimum": [
        *(*SMALL, "env=cartpole", "num_envs=4", "total_steps=600"),
        *("algo/baseline=optimal", "algo.update=step"),
    ],
    "ppo": [*SMALL, "env=cartpole", "num_envs=4", "algo.rollout=32", "algo.minibatch=32", "total_steps=400"],
    "ppo with a memory": ["network=lstm", "num_envs=4", "algo.rollout=32", "algo.minibatch=32", "total_steps=400"],
    "vpg": [*SMALL, "env=cartpole", "num_envs=4", "algo.rollout=32", "total_steps=600"],
    "npg": [*(*SMALL, "env=cartpole", "num_envs=4", "algo.rollout=32"), "algo.fisher_rows=64", "total_steps=600"],
    "trpo with a fit of its own": [
        *(*SMALL, "env=cartpole", "num_envs=4", "algo.rollout=32"),
        *("algo/critic_fit=trust_region", "total_steps=600"),
    ],
    "acer": [*SMALL, "env=cartpole", "num_envs=4", "memory.warmup=100", "total_steps=400"],
    "acktr": [*SMALL, "env=cartpole", "num_envs=4", "total_steps=600"],
    "ppo with kfac": [
        *(*SMALL, "optimizer=kfac", "env=pendulum", "num_envs=4", "algo.rollout=32", "algo.minibatch=64"),
        "total_steps=400",
    ],
    "mdpo": [*SMALL, "env=pendulum", "num_envs=4", "algo.rollout=32", "algo.minibatch=64", "total_steps=640"],
    "ppo of a squashed Gaussian": [
        *(*SMALL, "env=pendulum", "num_envs=4", "algo.rollout=32", "algo.minibatch=64", "total_steps=640"),
        *("network.std=state", "network.squash=true", "algo.entropy_coef=0.01"),
    ],
    "vmpo": [*SMALL, "env=pendulum", "num_envs=4", "algo.rollout=32", "algo.minibatch=64", "total_steps=640"],
    "mdpo_offpolicy": [
        *(*SMALL, "env=pendulum", "memory.warmup=50", "memory.batch_size=16", "algo.mirror_every=7"),
        "total_steps=120",
    ],
    "offpolicy_pg": [*SMALL, "env=cartpole", "num_envs=4", "algo.rollout=32", "total_steps=400"],
    "gps": [*SMALL, "env=sparse_reach", "env.max_episode_steps=20", "num_envs=4", "total_steps=400"],
    "td3": [*SMALL, "env=pendulum", "memory.warmup=50", "memory.batch_size=16", "total_steps=120"],
    "ddpg with ou noise": [
        *(*SMALL, "env=pendulum", "memory.warmup=50", "memory.batch_size=16", "total_steps=120"),
        *("algo/exploration=ou", "algo.exploration.schedule=linear", "memory.updates=2"),
    ],
    "d4pg by priority": [
        *(*SMALL, "env=pendulum", "memory=prioritized", "memory.n_step=3", "memory.warmup=50", "memory.batch_size=16"),
        *("num_envs=2", "total_steps=120"),
    ],
    "dpg": [*SMALL, "env=pendulum", "num_envs=4", "total_steps=400"],
    "dpg_offpolicy": [*SMALL, "env=lqr", "num_envs=4", "total_steps=400"],
    "sac": [*SMALL, "env=pendulum", "memory.warmup=50", "memory.batch_size=16", "total_steps=120"],
    "sac_v1": [*SMALL, "env=pendulum", "memory.warmup=50", "memory.batch_size=16", "total_steps=120"],
    "redq": [
        *(*SMALL, "env=pendulum", "memory.warmup=50", "memory.batch_size=16", "memory.updates=3", "algo.critics=4"),
        "total_steps=80",
    ],
    "dqn": [
        *(*SMALL, "env=cartpole", "memory=prioritized", "memory.warmup=50", "memory.batch_size=16", "memory.n_step=2"),
        *("algo.rollout=4", "algo.target_every=3", "total_steps=120"),
    ],
    "td3 with two memories": [
        *("env=pendulum_pomdp", "network=lstm", "network.hidden=[8]", "network.size=8", "memory=sequences"),
        *("memory.length=4", "memory.stride=2", "memory.burn_in=3", "memory.warmup=50", "memory.batch_size=8"),
        *("algo/exploration=ou", "total_steps=120"),
    ],
    "sac_discrete": [*SMALL, "env=cartpole", "memory.warmup=50", "memory.batch_size=16", "total_steps=120"],
    "sql": [*SMALL, "env=multi_goal", "memory.warmup=50", "memory.batch_size=8", "total_steps=120"],
    "sql by chains": [
        *(*SMALL, "env=pendulum", "memory.warmup=50", "memory.batch_size=8", "total_steps=80"),
        *("algo.sampler=mcmc", "algo.langevin_steps=3"),
    ],
    "sql with a softmax": [*SMALL, "env=cartpole", "memory.warmup=50", "memory.batch_size=16", "total_steps=120"],
    "maddpg": [
        *(*SMALL, "env=simple_speaker_listener", "num_envs=2", "algo.rollout=5", "algo.ensembles=2"),
        *("algo.infer_policies=true", "memory.warmup=30", "memory.batch_size=16", "total_steps=120"),
    ],
    "iddpg": [
        *(*SMALL, "env=simple_spread", "num_envs=2", "algo.rollout=5", "memory.warmup=30", "memory.batch_size=16"),
        "total_steps=120",
    ],
    "ppo of agents": [*SMALL, "env=simple_spread", "num_envs=2", "algo.rollout=8", "total_steps=240"],
}
