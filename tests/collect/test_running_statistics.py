"""Running statistics are of what was collected: each fresh step once, whatever is replayed or learnt from again."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from probes import run
from recipes import OF_AGENTS, OF_NUMBERS, SAMPLED, demonstrations, recipe, sampled
from running import compose, new_run, parts

from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.nn.normalize import RunningNorm
from pgrun.run.build import build

GAMMA = 0.99
REFUSE_OBS = OF_NUMBERS | OF_AGENTS | {"dqn", "sac_discrete", "sql", "gps"}
OBS, REWARD = "network.normalize_obs=true", "algo.normalize_reward=true"


def norms(algorithm):
    """Every normaliser, by name."""
    return {name: x for name, x in algorithm.named_modules() if isinstance(x, RunningNorm)}


def words(algo, folder):
    env = "env=cartpole env.max_episode_steps=12"
    more = [demonstrations(folder / "demos.npz", *env.split())] if algo == "behaviour_cloning" else []
    return recipe(algo, env, "env=pendulum env.max_episode_steps=12") + more


@pytest.mark.parametrize("key", [OBS, REWARD])
@pytest.mark.parametrize("algo", SAMPLED)
def test_every_algorithm_counts_each_step_once_or_refuses_by_name(algo, key, tmp_path):
    small = words(algo, tmp_path)
    if key == REWARD and "normalize_reward" not in compose(f"algo={algo}").algo:
        return  # there is no such key, which the shell says
    if algo in REFUSE_OBS if key == OBS else algo == "behaviour_cloning":
        with pytest.raises(UserError, match=rf"use {key.replace('true', 'false')}$"):
            run(*small, key)
        return
    made, clock = run(*small, key, "total_steps=150")
    found = norms(made.algorithm)
    assert found
    for name, norm in found.items():
        assert norm.count == clock.steps, name


CASES = {
    "one after the other": ("algo=offpolicy_pg", "memory.merge=false", "memory.replay_ratio=4", REWARD),
    "side by side": ("algo=offpolicy_pg", "memory.merge=true", "memory.replay_ratio=1.5", REWARD),
    "poisson": ("algo=offpolicy_pg", "memory.merge=true", "memory.poisson=true", REWARD),
    "acer": ("algo=acer", "memory.warmup=0"),
    "next step": ("algo=ppo", "algo.minibatch=8", "env.autoreset=next_step", REWARD),
    "memory": ("algo=ppo", "network=lstm", "network.size=4", "algo.minibatch=8", REWARD),
    "episodes": ("algo=reinforce", "collector.episodes=8", REWARD),
    "step by step": ("algo=reinforce", "algo.normalize=none", "algo.update=step", "collector.episodes=4", REWARD),
    "measured": ("algo=ppo", "algo.minibatch=8", "diagnostics.gradient_variance=true", REWARD),
    "async": ("algo=a3c", REWARD),
    "agents": ("algo=ppo", "algo.minibatch=8", "env=simple_spread", REWARD),
}


@pytest.mark.parametrize(
    "name", sampled(list(CASES), ("one after the other", "poisson", "acer", "next step", "episodes"))
)
def test_each_step_counts_once_however_it_is_learnt_from(name):
    env = () if name == "agents" else ("env=cartpole",)
    rollout = () if "reinforce" in CASES[name][0] else ("algo.rollout=8",)
    small = ("env.num_envs=4", "network.hidden=[8]", OBS, "total_steps=400")
    made, clock = run(*env, *CASES[name], *rollout, *small)
    for norm in norms(made.algorithm).values():
        assert norm.count == clock.steps


@pytest.mark.parametrize("merge", [False, True])
def test_replayed_rollouts_leave_the_reward_scale_alone(merge):
    """One endless episode that pays 1 a step: R goes to 1/(1 − γ), and is cut nowhere."""
    made = parts("algo=offpolicy_pg", "env=cartpole", f"memory.merge={str(merge).lower()}", "memory.replay_ratio=3",
                 "num_envs=2", "network.hidden=[4]", REWARD)  # fmt: skip
    t, b = 16, 2
    obs, one, never = torch.ones(t, b, 4), torch.ones(t, b), torch.zeros(t, b, dtype=torch.bool)
    rollout = Transition(obs, never.long(), one, one, obs, never, ~never, {"log_prob": -0.7 * one})
    for _ in range(30):
        made.memory.add(rollout)
        for batch in made.memory.batches():
            made.algorithm.update(batch)
    r = np.cumsum(GAMMA ** np.arange(30 * t))
    norm = made.algorithm.reward_scale.norm
    assert norm.count == 30 * t * b
    assert float(norm.mean) == pytest.approx(r.mean(), rel=1e-4)
    assert float(norm.var) == pytest.approx(r.var(), rel=1e-4)


def test_each_rollout_of_whole_episodes_begins_its_returns_at_zero():
    made = parts("algo=reinforce", "env=cartpole", "num_envs=8", "collector.episodes=8", REWARD)
    returns = []
    for _ in range(6):
        rollout = made.collector.collect(made.algorithm)
        made.algorithm.update(rollout)
        for length in rollout.valid.sum(0).tolist():
            returns.append(np.cumsum(GAMMA ** np.arange(length)))  # R_t = 1 + γ + … + γ^t
    scale = made.algorithm.reward_scale
    assert not scale.carry.any()
    assert float(scale.norm.var) == pytest.approx(np.concatenate(returns).var(), rel=1e-4)


def test_a_run_resumed_with_fresh_episodes_begins_their_returns_at_zero(tmp_path):
    small = ("algo=a2c", "env=acrobot", "num_envs=2", "network.hidden=[4]", "eval.every=null", "eval.final_episodes=1")
    first = new_run(tmp_path, *small, REWARD, "total_steps=40")
    first.execute()
    state = first.snapshot()
    assert state["algorithm"]["module"]["reward_scale.carry"].all()
    kept = new_run(tmp_path, *small, REWARD, "total_steps=80", resume=state)
    assert kept.parts.algorithm.reward_scale.carry.all()
    state["collector"]["env"] = None  # as of an environment whose state can't be had
    fresh = new_run(tmp_path, *small, REWARD, "total_steps=80", resume=state)
    assert not fresh.parts.algorithm.reward_scale.carry.any()


def test_the_policy_is_the_one_that_acted_until_it_is_updated():
    """Statistics of a rollout's observations count from the next one on: the ratio to π_old begins at 1."""
    made = parts("algo=ppo", "env=cartpole", "num_envs=4", "algo.rollout=16", OBS)
    for _ in range(3):
        rollout = made.collector.collect(made.algorithm)
        acted = made.algorithm.model.policy(rollout).log_prob(rollout.action)
        assert torch.equal(made.algorithm.estimate(rollout).extras["log_prob"], acted)
        made.algorithm.update(rollout)


def test_images_are_not_normalised_in_silence():
    config = compose("algo=ppo", "network=lstm", OBS, "env=cartpole")
    network = build(config).algorithm.network
    with pytest.raises(UserError, match=r"use network\.normalize_obs=false"):
        network.encoder(gym.spaces.Box(0, 255, (16, 16, 3), np.uint8))
