"""Demonstrations recorded by an evaluation, and handed out to learn from."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from running import compose, new_run
from shell import pgrun_inside
from torch.testing import assert_close

from pgrun.after.evaluation import evaluate_checkpoint
from pgrun.collect.demonstrations import DemonstrationRecorder, Demonstrations
from pgrun.envs.episode_file import episodes, load
from pgrun.envs.make import make
from pgrun.errors import UserError
from pgrun.loop.evaluate import evaluate
from pgrun.run.build import build

spaces = gym.spaces
OBS, BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Box(-1.0, 1.0, (2,), np.float32)
DISCRETE = spaces.Discrete(4)


class Script:
    """A policy that tosses coins, for evaluation."""

    device = torch.device("cpu")

    def initial_carry(self, num_envs):
        return ()

    def act(self, obs, carry, explore):
        return torch.randint(2, (len(obs),)), carry, {}


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_what_an_evaluation_counts_is_recorded(autoreset):
    kwargs = {"backend": "sync", "max_episode_steps": None, "extra": None, "kwargs": {}, "wrappers": ()}
    env = make(id="CartPole-v1", num_envs=3, autoreset=autoreset, float64=False, seed=0, **kwargs)
    watch = DemonstrationRecorder()
    result = evaluate(Script(), env, 7, seed=5, record=watch)
    env.close()
    split = episodes(watch.rollout())
    lengths = split.valid.sum(0)
    assert sorted(lengths.tolist()) == sorted(result.lengths)
    assert sorted((split.reward * split.valid).sum(0).tolist()) == sorted(result.returns)
    for e, n in enumerate(lengths.tolist()):  # every step's successor is the next one's observation
        assert torch.equal(split.next_obs[: n - 1, e], split.obs[1:n, e])


def test_pgrun_eval_records_and_a_recipe_reads(tmp_path):
    small = ("network.hidden=[8]", "eval.every=null", "eval.final_episodes=1")
    run = new_run(
        tmp_path / "run", "algo=ppo", "env=pendulum", "total_steps=64", "num_envs=2", "algo.rollout=32", *small
    )
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(run.config))
    run.execute()
    said = pgrun_inside("eval", "run", "--episodes", "3", "--stochastic", "--record", "demos.npz", cwd=tmp_path)
    assert said.code == 0, said.err
    env, model = run.parts.make_eval_env(1), run.parts.algorithm.model
    data = load(str(tmp_path / "demos.npz"), env.obs_space, env.action_space)
    assert data.reward.shape == (200, 3)
    assert_close(data.extras["log_prob"], model.actor(data.obs).log_prob(data.action).detach(), rtol=1e-4, atol=1e-4)
    evaluate_checkpoint(
        tmp_path / "run", "latest", episodes=1, seed=None, stochastic=False, record=tmp_path / "mode.npz"
    )
    data = load(str(tmp_path / "mode.npz"), env.obs_space, env.action_space)
    assert data.extras == {}  # the mode has no density
    assert_close(data.action, model.actor(data.obs).mean.detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="observation_space"):
        build(compose("algo=behaviour_cloning", "env=cartpole", f"demonstrations={tmp_path}/demos.npz"))
    with pytest.raises(UserError, match=r"demonstrations=FILE\.npz"):
        build(compose("algo=behaviour_cloning", "env=cartpole"))


def collector(path, m):
    env = build(compose("algo=ppo", "num_envs=1")).collector.env
    return Demonstrations(env=env, source=str(path), episodes=m)


def test_demonstrations_are_each_handed_out_once_an_epoch(tmp_path):
    n = 5
    starts = np.ones(n, dtype=bool)
    np.savez(
        tmp_path / "a.npz",
        observations=np.zeros((n, 4)),
        actions=np.zeros(n, dtype=int),
        rewards=np.arange(n),
        terminations=starts,
        truncations=~starts,
        episode_starts=starts,
    )
    demos = collector(tmp_path / "a.npz", 1)
    seen = [int(demos.collect(None).reward) for _ in range(2 * n)]
    assert sorted(seen[:n]) == sorted(seen[n:]) == list(range(n))
    other = collector(tmp_path / "a.npz", 1)
    demos.collect(None)
    other.restore(demos.snapshot())
    assert [int(demos.collect(None).reward) for _ in range(4)] == [int(other.collect(None).reward) for _ in range(4)]
    assert demos.collect(None).extras["log_prob"].isnan().all()
