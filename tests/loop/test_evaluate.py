"""Evaluation: whose episodes count, from which random numbers, and with what memory."""

import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from recipes import sampled
from running import change_config, new_run, parts, same

from pgrun.after.evaluation import evaluate_checkpoint
from pgrun.config.resolve import resolved
from pgrun.data.types import Step
from pgrun.loop.evaluate import Evaluation, evaluate
from pgrun.system import randomness


class Countdown:
    """Copy i's episodes last i + 1 steps (and pay 10·i a step), from a counter that never stops; no real world."""

    obs_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, num_envs: int, filler: bool = False) -> None:
        self.num_envs, self.filler = num_envs, filler
        self.seeds: list[int | None] = []

    def reset(self, seed=None):
        self.seeds.append(seed)
        self.t = torch.zeros(self.num_envs)
        self.pending = torch.zeros(self.num_envs, dtype=torch.bool)
        self.steps = 0
        return self.obs()

    def obs(self):
        return torch.stack([torch.arange(self.num_envs) * 1.0, self.t], -1)

    def step(self, action):
        self.steps += 1
        np.random.rand(), random.random(), torch.rand(1)  # a world that draws from the global generators
        index = torch.arange(self.num_envs)
        valid = ~self.pending
        self.t += valid
        last = (self.t > index) & valid
        reward = torch.where(valid, 10.0 * index, torch.tensor(777.0))  # a filler row's reward is nobody's
        self.t[last] = 0
        self.pending = last if self.filler else self.pending
        return Step(self.obs(), self.obs(), reward, torch.ones(self.num_envs), last, valid)


class Policy:
    """Counts in its carry how often it acted in this episode."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.seen: list[list[float]] = []
        self.explored: list[bool] = []

    def initial_carry(self, num_envs):
        return (torch.zeros(num_envs), torch.zeros(num_envs, 2))

    def act(self, obs, carry, explore):
        self.seen.append(carry[0].tolist())
        self.explored.append(explore)
        assert torch.equal(carry[1], carry[0].unsqueeze(-1).expand(-1, 2))
        return torch.zeros(len(obs), dtype=torch.int64), (carry[0] + 1, carry[1] + 1), {}


@pytest.mark.parametrize("filler", [False, True])
@pytest.mark.parametrize(("episodes", "envs"), [(1, 1), (4, 4), (10, 4), (3, 4), (7, 3)])
def test_each_copy_has_its_share(episodes, envs, filler):
    result = evaluate(Policy(), Countdown(envs, filler), episodes, seed=5)
    share = [episodes // envs + (i < episodes % envs) for i in range(envs)]
    want = [i + 1 for i in range(envs) for _ in range(share[i])]
    assert sorted(result.lengths) == sorted(want)  # by speed alone, copy 0 would have most of them
    assert sorted(result.returns) == sorted(10.0 * (n - 1) * n for n in want)


@pytest.mark.parametrize("filler", [False, True])
def test_other_streams_are_summed_as_rewards_are(filler):
    class Two(Countdown):
        def step(self, action):
            step = super().step(action)
            return step._replace(streams={"return_more": step.reward + 1.0})

    result = evaluate(Policy(), Two(3, filler), 7, seed=5)
    assert result.streams == {"return_more": [r + n for r, n in zip(result.returns, result.lengths, strict=True)]}
    assert result.stream_means == {"return_more": pytest.approx(np.mean(result.streams["return_more"]))}
    assert evaluate(Policy(), Countdown(3, filler), 7, seed=5).streams == {}


@pytest.mark.parametrize("filler", [False, True])
def test_memory_begins_anew_with_each_episode(filler):
    policy, env = Policy(), Countdown(3, filler)
    evaluate(policy, env, 9, seed=0)
    for i in range(3):
        column = [seen[i] for seen in policy.seen]
        starts = [t for t, value in enumerate(column) if value == 0]
        # a filler row finds nothing to remember and leaves nothing
        assert starts[:3] == ([0, i + 1, i + 2] if filler else [0, i + 1, 2 * (i + 1)])


def test_it_stops_when_all_shares_are_done():
    env = Countdown(3)
    evaluate(Policy(), env, 6, seed=0)
    assert env.steps == 6  # the slowest copy's two episodes of three steps
    assert env.seeds == [0]


@pytest.mark.parametrize("fails", [False, True])
def test_trainings_generators_are_left_alone(fails, monkeypatch):
    before = randomness.generators()
    env = Countdown(2)
    if fails:
        monkeypatch.setattr(env, "obs", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(Policy(), env, 2, seed=3)
    else:
        evaluate(Policy(), env, 2, seed=3)
    assert same(randomness.generators(), before)


@pytest.mark.parametrize("env", sampled(["cartpole", "pendulum", "lunar_lander", "cartpole_pomdp"], 2))
@pytest.mark.parametrize("explore", [False, True])
def test_the_seed_decides(env, explore):
    made = parts(f"env={env}", "env.max_episode_steps=200", "network.hidden=[8]", "network.head_gain=1.0")
    world = made.make_eval_env(3)

    def returns(seed: int) -> Evaluation:
        torch.rand(7)  # training goes on in between
        return evaluate(made.algorithm, world, 5, seed=seed, explore=explore)

    first, other, again = returns(1), returns(2), returns(1)
    assert first == again
    assert first != other
    fresh = made.make_eval_env(3)
    assert evaluate(made.algorithm, fresh, 5, seed=1, explore=explore) == first
    assert len(first.returns) == 5
    assert all(length <= 200 for length in first.lengths)


def test_envpool_is_evaluated_on_the_same_episodes_each_time():
    made = parts("env.backend=envpool", "env.max_episode_steps=30", "network.hidden=[8]")
    world = made.make_eval_env(3)
    assert evaluate(made.algorithm, world, 5, seed=1) == evaluate(made.algorithm, world, 5, seed=1)


def test_it_explores_only_where_it_is_told_to():
    policy = Policy()
    evaluate(policy, Countdown(1), 1, seed=0)
    evaluate(policy, Countdown(1), 1, seed=0, explore=True)
    assert policy.explored == [False, True]


def test_mean_and_deviation():
    result = Evaluation([1.0, 2.0, 6.0], [1, 1, 1])
    assert result.mean == pytest.approx(np.mean(result.returns))
    assert result.std == pytest.approx(np.std(result.returns))


def test_cartpoles_returns_are_its_lengths():
    made = parts("network.hidden=[8]")
    result = evaluate(made.algorithm, made.make_eval_env(4), 6, seed=0)
    assert result.returns == [float(length) for length in result.lengths]


def test_evaluation_needs_no_worker_processes():
    made = parts("env.backend=async", "num_envs=2", "network.hidden=[8]")
    world = made.make_eval_env(100)
    assert world.num_envs == 2
    assert type(world.env).__name__ == "Copies"
    made.collector.env.close()


def test_a_policy_is_evaluated_in_the_precision_that_it_was_trained_in(tmp_path):
    small = ("network.hidden=[64,64]", "memory.capacity=100", "total_steps=20", "eval.final_episodes=4")
    run = new_run(tmp_path, "algo=td3", "env=pendulum", *small, "matmul_precision=bfloat16")
    trained = run.execute()["eval_return_mean"]
    (tmp_path / ".hydra").mkdir()
    found = {}
    for precision in ("bfloat16", "highest"):
        OmegaConf.update(run.config, "matmul_precision", precision)
        OmegaConf.save(resolved(run.config), tmp_path / ".hydra" / "config.yaml")
        change_config(tmp_path / "checkpoints" / "latest.pt", resolved(run.config))
        found[precision] = evaluate_checkpoint(tmp_path, "latest", episodes=4, seed=None, stochastic=False)
    assert found["bfloat16"]["eval_return_mean"] == trained
    assert found["highest"]["eval_return_mean"] != trained
