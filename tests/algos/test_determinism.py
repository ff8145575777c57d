"""A seed decides every bit of a run."""

import pytest
import torch
from probes import run

SMALL = ["network=mlp", "network.hidden=[16]"]
RECIPES = {
    "reinforce": [*SMALL, "env=cartpole", "num_envs=4", "total_steps=600"],
    "a2c": [*SMALL, "env=cartpole", "num_envs=4", "total_steps=400"],
    "actor_critic with q": [*SMALL, "env=cartpole", "num_envs=4", "algo/advantage=q", "total_steps=400"],
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
    "dqn": [
        *(*SMALL, "env=cartpole", "memory=prioritized", "memory.warmup=50", "memory.batch_size=16", "memory.n_step=2"),
        *("algo.rollout=4", "algo.target_every=3", "total_steps=120"),
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


def outcome(name, seed):
    """Every parameter and statistic after the run, and the optimizers' state."""
    parts, clock = run(f"algo={name.split()[0]}", *RECIPES[name], f"seed={seed}")
    assert clock.updates > 3
    state = parts.algorithm.snapshot()
    tensors = dict(state["module"])
    for name, optimizer in state["optimizers"].items():
        tensors |= {f"{name}.{key}": value for key, value in optimizer.items()}
    return {key: value.clone() for key, value in tensors.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_one_seed_one_result_another_seed_another(name):
    first, again, other = outcome(name, 3), outcome(name, 3), outcome(name, 4)
    assert first.keys() == again.keys()
    assert [key for key in first if not torch.equal(first[key], again[key])] == []
    weights = [key for key in first if key.startswith(("model.", "actor.", "q.")) and first[key].dim() > 1]
    assert weights
    assert not any(torch.equal(first[key], other[key]) for key in weights)
