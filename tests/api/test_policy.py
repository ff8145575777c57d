"""A policy acts by hand as it does in an evaluation, in the environment that a user makes himself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import acted
import gymnasium as gym
import numpy as np
import pytest
import torch

import pgrun
from pgrun.envs.gymnasium import sub_seeds
from pgrun.envs.worlds import CartPole
from pgrun.system.randomness import generators

NOTED = "env.wrappers=[{_target_: acted.Acted, _partial_: true}]"
SHORT = ("eval.every=null", "eval.final_episodes=0", "hydra.run.dir=run")
SMALL = "network.hidden=[8]"


@dataclass
class Kind:
    """A kind of run, and the environment that its user makes."""

    words: tuple[str, ...]
    id: str
    steps: int = 64
    mask: bool = False
    demonstrated: bool = False
    draws: bool = False  # it draws numbers in a batch's order even where it takes the best


def kind(*words: str, env: str, **how: Any) -> Kind:
    return Kind(words, env, **how)


def world(id: str, *words: str, **how: Any) -> Kind:
    """A kind of run in one of the small worlds."""
    return kind(*words, "env=gym", f"env.id=worlds:{id}", "env.num_envs=2", env=id, **how)


PPO = ("algo=ppo", "num_envs=2", "algo.rollout=16", "algo.minibatch=16", "algo.epochs=1")
OFF = ("num_envs=2", "memory.warmup=16", "memory.batch_size=8")
KINDS: dict[str, Kind] = {
    "feed-forward": kind(*PPO, "env=cartpole", env="CartPole-v1"),
    "masked": world("MaskedWorld-v0", *PPO, SMALL),
    "recurrent-normalised": kind(
        *PPO, "env=pendulum", "network=lstm", "network.normalize_obs=true", SMALL, env="Pendulum-v1"
    ),
    "squashed": kind(
        *PPO, "env=pendulum", "network.squash=true", "network.normalize_obs=true", SMALL, env="Pendulum-v1"
    ),
    "mask-in-info": kind(
        *PPO, "env=gym", "env.id=acted:MaskBeside-v0", "env.num_envs=2", env="MaskBeside-v0", mask=True
    ),
    "image": world("ObsImage-v0", *PPO, "network=cnn", "network.channels_last=true"),
    "dict": world("ObsDict-v0", *PPO, SMALL),
    "nested-dict": world("ObsNested-v0", *PPO, SMALL),
    "discrete-from-3": world("ObsDiscreteFrom3-v0", *PPO, SMALL),
    "64-bit": world("ObsBox64-v0", *PPO, SMALL, "network.normalize_obs=true"),
    "scalar": world("ObsScalar-v0", *PPO, SMALL),
    "actions-from-5": world("ActDiscreteFrom5-v0", *PPO, SMALL),
    "multi-discrete": world("ActMultiDiscreteFrom4-v0", *PPO, SMALL),
    "multi-binary": world("ActMultiBinaryGrid-v0", *PPO, SMALL),
    "bounded": world("ActBounded-v0", *PPO, SMALL),
    "whole": world("ActWhole-v0", *PPO, SMALL),
    "sac": kind("algo=sac", "env=pendulum", *OFF, SMALL, env="Pendulum-v1"),
    "recurrent-sac": kind(
        "algo=sac",
        "env=pendulum",
        *OFF,
        "network=lstm",
        SMALL,
        "memory=sequences",
        "memory.length=4",
        "memory.stride=4",
        env="Pendulum-v1",
    ),
    "sac-discrete": kind("algo=sac_discrete", "env=cartpole", *OFF, SMALL, env="CartPole-v1"),
    "dqn": kind("algo=dqn", "env=cartpole", *OFF, SMALL, env="CartPole-v1"),
    "ddpg-with-noise": kind("algo=ddpg", "env=pendulum", *OFF, SMALL, "algo/exploration=ou", env="Pendulum-v1"),
    "d4pg": kind("algo=d4pg", "env=pendulum", *OFF, SMALL, env="Pendulum-v1"),
    "sql": kind("algo=sql", "env=pendulum", *OFF, SMALL, env="Pendulum-v1", draws=True),
    "acer": kind("algo=acer", "env=cartpole", "num_envs=2", SMALL, env="CartPole-v1", steps=200),
    "reinforce": kind("algo=reinforce", "env=cartpole", "num_envs=2", SMALL, env="CartPole-v1"),
    "gps": kind("algo=gps", "env=pendulum", "num_envs=2", SMALL, env="Pendulum-v1", steps=400, demonstrated=True),
    "cloned": kind("algo=behaviour_cloning", "env=cartpole", SMALL, env="CartPole-v1", demonstrated=True),
}
QUICK = ("feed-forward", "masked")
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]


def trained(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> pgrun.Run:
    """A run of a kind, trained for a moment, with another's demonstrations where it learns from some."""
    monkeypatch.chdir(folder)
    one = KINDS[name]
    words = [*one.words, NOTED, *SHORT, f"total_steps={one.steps}"]
    if one.demonstrated:
        before = [*PPO, next(word for word in one.words if word.startswith("env=")), NOTED, *SHORT[:2]]
        teacher = pgrun.train(*before, "hydra.run.dir=teacher", total_steps=64, quiet=True)
        pgrun.evaluate(teacher, episodes=4, record="demos.npz", stochastic=True)
        words.append("demonstrations=demos.npz")
    return pgrun.train(*words, quiet=True)


def stacked(rows: Sequence[Any]) -> Any:
    """A batch of observations."""
    first = rows[0]
    return {key: stacked([row[key] for row in rows]) for key in first} if isinstance(first, dict) else np.stack(rows)


def by_hand(
    policy: pgrun.Policy, envs: Sequence[gym.Env], seed: int, episodes: int, *, masked: bool
) -> tuple[list[float], list[int]]:
    """Step copies of an environment with a policy, each for its share of the episodes, as an evaluation does."""
    b = len(envs)
    share = [episodes // b + (i < episodes % b) for i in range(b)]
    started = [env.reset(seed=s) for env, s in zip(envs, sub_seeds(seed, b), strict=True)]
    obs, info = [x[0] for x in started], [x[1] for x in started]
    total, length, returns, lengths = [0.0] * b, [0] * b, [], []
    policy.reset()
    while any(share):
        if b == 1:
            action = [policy(obs[0], mask=info[0]["action_mask"] if masked else None)]
        else:
            masks = stacked([x["action_mask"] for x in info]) if masked else None
            action = policy(stacked(obs), mask=masks)
        ended = []
        for i, env in enumerate(envs):
            obs[i], reward, terminated, truncated, info[i] = env.step(action[i])
            total[i] += float(np.float32(reward))
            length[i] += 1
            if terminated or truncated:
                if share[i]:
                    returns.append(total[i])
                    lengths.append(length[i])
                    share[i] -= 1
                total[i], length[i] = 0.0, 0
                obs[i], info[i] = env.reset()
                ended.append(i)
        if ended:
            policy.reset() if b == 1 else policy.reset(rows=ended)
    return returns, lengths


def same(one: Any, other: Any) -> bool:
    """Whether two actions are equal bit for bit, and of one type."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    a, b = np.asarray(one), np.asarray(other)
    return a.dtype == b.dtype and np.array_equal(a, b)


def noted(act: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """Return a function's result, and the actions that environments were given meanwhile."""
    acted.ACTIONS.clear()
    return act(), list(acted.ACTIONS)


@pytest.mark.parametrize("name", EVERY)
def test_it_acts_as_in_an_evaluation(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(name, tmp_path, monkeypatch)
    for copies, episodes in ((1, 2), (2, 3)):
        acts_alike(run, KINDS[name], copies, episodes)


def acts_alike(run: pgrun.Run, of: Kind, copies: int, episodes: int) -> None:
    """By hand, a policy takes an evaluation's actions, bit for bit, and gets its returns."""
    result, theirs = noted(lambda: pgrun.evaluate(run, {"eval.num_envs": copies}, episodes=episodes))
    policy = run.policy()
    envs = [acted.Acted(gym.make(of.id)) for _ in range(copies)]
    envs[0].reset(seed=0)  # as pgrun does to see what info has; the small worlds count their episodes
    masked = of.mask
    (returns, lengths), ours = noted(lambda: by_hand(policy, envs, result["eval_seed"], episodes, masked=masked))
    assert len(ours) == len(theirs)
    assert all(map(same, ours, theirs))
    assert all(envs[0].action_space.contains(action) for action in ours)
    assert sum(returns) / episodes == result["eval_return_mean"]
    assert sum(lengths) / episodes == result["eval_length_mean"]
    if not of.draws:
        batch_and_rows(policy, envs, masked=masked)


def batch_and_rows(policy: pgrun.Policy, envs: Sequence[gym.Env], *, masked: bool) -> None:
    """A batch gets what its rows get, arrays get arrays and tensors tensors."""
    started = [envs[0].reset(seed=seed) for seed in range(5)]
    obs, masks = [x[0] for x in started], [x[1].get("action_mask") for x in started]
    policy.reset()
    batch = policy(stacked(obs), mask=stacked(masks) if masked else None)
    for row, one, mask in zip(batch, obs, masks, strict=True):
        policy.reset()
        alone = policy(one, mask=mask if masked else None)
        assert np.asarray(alone).dtype == row.dtype
        if row.dtype.kind == "f":
            # torch multiplies a matrix otherwise than a vector, so the last bits may differ
            np.testing.assert_allclose(alone, row, rtol=1e-4, atol=1e-5)
        else:
            assert np.array_equal(alone, row)
    if not isinstance(obs[0], dict):
        policy.reset()
        tensor = policy(torch.as_tensor(np.stack(obs)), mask=stacked(masks) if masked else None)
        assert isinstance(tensor, torch.Tensor)
        assert same(tensor.numpy(), batch)


@pytest.mark.slow
@pytest.mark.parametrize("id", ["spread", "mixed"])
@pytest.mark.parametrize("algo", ["maddpg", "ensembles"])
def test_several_agents_that_learn_together(
    id: str, algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["algo.ensembles=2", "collector.random_steps=0"] if algo == "ensembles" else []
    words = ("algo=maddpg", "env=pettingzoo", f"env.id=acted:{id}", *OFF, SMALL, *SHORT, *more)
    run = pgrun.train(*words, total_steps=64, quiet=True)
    result, theirs = noted(lambda: pgrun.evaluate(run, {"eval.num_envs": 1}, episodes=3))
    policy, env = run.policy(), getattr(acted, id)()

    def play() -> list[float]:
        seeds, returns = np.random.default_rng(sub_seeds(result["eval_seed"], 1)), []
        for _ in range(3):
            obs, _ = env.reset(seed=int(seeds.integers(2**31)))
            policy.reset()
            returns.append(0.0)
            while env.agents:
                obs, reward, *_ = env.step(policy({agent: obs[agent] for agent in env.agents}))
                paid = [reward.get(agent, 0.0) for agent in policy.action_space]  # type: ignore[attr-defined]
                returns[-1] += float(torch.tensor(np.array(paid, dtype=np.float32)).mean())
        return returns

    returns, ours = noted(play)
    assert all(map(same, ours, theirs))
    assert len(ours) == len(theirs)
    assert sum(returns) / 3 == pytest.approx(result["eval_return_mean"], rel=1e-6)
    with pytest.raises(pgrun.UserError, match="give a dict of"):
        policy({"nobody": 0})


@pytest.mark.slow
@pytest.mark.parametrize("id", ["spread", "ladder"])
@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_several_agents_that_share_a_policy(
    id: str, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (*PPO, "env=pettingzoo", f"env.id=acted:{id}", "env.agent_index=true", f"network={network}", SMALL, *SHORT)
    run = pgrun.train(*words, total_steps=64, quiet=True)
    episodes = 3 if id == "spread" else 2  # one of each agent
    result, theirs = noted(lambda: pgrun.evaluate(run, {"eval.num_envs": 1}, episodes=episodes))
    policy, env = run.policy(), getattr(acted, id)()

    def play() -> None:
        seeds = np.random.default_rng(sub_seeds(result["eval_seed"], 1))
        obs, _ = env.reset(seed=int(seeds.integers(2**31)))
        policy.reset()
        while env.agents:
            obs, *_ = env.step(policy({agent: obs[agent] for agent in env.agents}))

    _, ours = noted(play)
    assert all(map(same, ours, theirs[: len(ours)]))
    assert len(ours) == len(theirs)
    policy.reset()
    obs, _ = env.reset(seed=0)
    batch = policy({agent: np.stack([x, x]) for agent, x in obs.items()})
    policy.reset()
    alone = policy(obs)
    assert all(np.array_equal(batch[agent], [alone[agent]] * 2) for agent in alone)


@pytest.mark.slow
def test_a_world_of_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = (*PPO, "env=cartpole_pomdp", "network=gru", SMALL, *SHORT)
    run = pgrun.train(*words, total_steps=64, quiet=True)
    result = pgrun.evaluate(run, {"eval.num_envs": 1}, episodes=2)
    policy, world = run.policy(), CartPole(masked=["x_dot", "theta_dot"])
    rng = torch.Generator().manual_seed(sub_seeds(result["eval_seed"], 1)[0])
    lengths = []
    for _ in range(2):
        state = world.initial(1, rng)
        policy.reset()
        lengths.append(0)
        over = False
        while not over:
            action = policy(world.observe(state))
            state, _, fallen, _ = world.step(state, action, rng)
            lengths[-1] += 1
            over = bool(fallen) or lengths[-1] == 500
    assert sum(lengths) / 2 == result["eval_length_mean"]


@pytest.mark.slow
def test_sampled_actions_are_its_own_generators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained("squashed", tmp_path, monkeypatch)
    result, theirs = noted(lambda: pgrun.evaluate(run, {"eval.num_envs": 1}, episodes=2, stochastic=True))
    before = generators()
    policy = run.policy(stochastic=True)
    env = acted.Acted(gym.make("Pendulum-v1"))
    _, ours = noted(lambda: by_hand(policy, [env], result["eval_seed"], 2, masked=False))
    assert all(map(same, ours, theirs))
    obs = np.zeros(3, np.float32)
    assert not np.array_equal(policy(obs), policy(obs))
    again = [pgrun.load(run, stochastic=True, seed=5)(obs) for _ in range(2)]
    assert np.array_equal(*again)
    after = generators()
    assert torch.equal(before["torch"], after["torch"])
    assert before["python"] == after["python"]


def test_what_is_no_observation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained("recurrent-normalised", tmp_path, monkeypatch)
    policy = run.policy()
    wrong: list[tuple[Any, str]] = [
        (np.zeros(4, np.float32), "of shape"),
        ("text", "its space says"),
        ([[1.0], [2.0, 3.0]], "its space says"),
        (np.array([np.nan, 0, 0], np.float32), "NaN"),
        (np.zeros((0, 3), np.float32), "a batch of none"),
        ({"a": 1}, "its space says"),
    ]
    for obs, said in wrong:
        with pytest.raises(pgrun.UserError, match=said) as refused:
            policy(obs)
        assert "\n" not in str(refused.value)
    with pytest.raises(pgrun.UserError, match="mask"):
        policy(np.zeros(3, np.float32), mask=[1])
    policy(np.zeros((2, 3), np.float32))
    with pytest.raises(pgrun.UserError, match="reset"):
        policy(np.zeros(3, np.float32))
    with pytest.raises(pgrun.UserError, match="no rows"):
        policy.reset(rows=[2])
    first = policy(np.ones((2, 3), np.float32))
    policy.reset()
    policy(np.zeros((2, 3), np.float32))
    policy.reset(rows=np.array([False, True]))
    one_anew = policy(np.ones((2, 3), np.float32))
    assert np.array_equal(first[0], one_anew[0])
    assert not np.array_equal(first[1], one_anew[1])
    policy.reset()
    assert np.array_equal(policy(np.ones((2, 3), np.float32))[1], one_anew[1])
