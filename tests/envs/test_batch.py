"""Checks of natively vectorised environments, and their trust in actions."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium as gym
import torch

from pgrun.envs.batch import trust_actions
from pgrun.envs.gymnasium import GymVectorEnv
from pgrun.envs.make import make


def test_a_native_environment_takes_actions_unseen_and_its_copies_space_stays_as_it_was():
    env = make(
        id="CartPole-v1",
        num_envs=2,
        backend="native",
        autoreset="same_step",
        max_episode_steps=None,
        extra=None,
        kwargs={},
        wrappers=[],
        seed=0,
    )
    assert isinstance(env, GymVectorEnv)
    env.reset(seed=0)
    assert env.env.unwrapped.action_space.contains("anything")
    assert not env.env.unwrapped.single_action_space.contains("anything")
    assert env.step(torch.tensor([0, 1])).obs.shape == (2, 4)


def test_others_who_have_the_space_keep_it():
    space = gym.spaces.Discrete(2)
    env = SimpleNamespace(action_space=space)
    trust_actions(env)
    assert env.action_space.contains(7)
    assert not space.contains(7)
