"""Classic control on tensors: Gymnasium's own steps from the same states and actions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from pgrun.envs.classic import WORLDS, tensor_env
from pgrun.envs.make import make
from pgrun.errors import UserError

PUSHES = {  # what a policy does now and then, so that goals, walls and falls are come to
    "MountainCar-v0": lambda obs: 2 * int(obs[1] > 0),
    "MountainCarContinuous-v0": lambda obs: np.array([1.0 if obs[1] > 0 else -1.0], np.float32),
    "CartPole-v1": lambda obs: int(obs[2] + obs[3] > 0),
    "Acrobot-v1": lambda obs: 2 * int(obs[4] < 0),
    "Pendulum-v1": lambda obs: np.array([2.0 if obs[2] > 0 else -2.0], np.float32),
}
# Not chaotic: from the first state on without looking at gymnasium's again. The others are compared step by step.
FOLLOWED = ("MountainCar-v0", "MountainCarContinuous-v0", "CartPole-v1")


def state_of(env: Any) -> np.ndarray:
    return np.array(env.unwrapped.state, np.float64)


@pytest.mark.parametrize("random", [0.1, 1.0])
@pytest.mark.parametrize("id", WORLDS)
def test_whole_episodes_are_gymnasium_s(id: str, random: float) -> None:
    copies = 2
    kind, own = WORLDS[id]
    world, draws = kind(**own), np.random.default_rng(1)
    env = gym.make(id)
    env.action_space.seed(1)
    assert (world.obs_space, world.action_space) == (env.observation_space, env.action_space)
    lengths, ended = [], 0
    for episode in range(copies):
        obs, _ = env.reset(seed=episode)
        state = torch.from_numpy(state_of(env))[None]
        np.testing.assert_allclose(world.observe(state)[0], obs, atol=1e-5)
        over, length = False, 0
        while not over:
            action = env.action_space.sample() if draws.random() < random else PUSHES[id](obs)
            obs, reward, terminated, truncated, _ = env.step(action)
            outcome = world.step(state, torch.as_tensor(action)[None], torch.Generator())
            state = outcome.state if id in FOLLOWED else torch.from_numpy(state_of(env))[None]
            np.testing.assert_allclose(outcome.state[0], state_of(env), atol=1e-5)
            np.testing.assert_allclose(world.observe(outcome.state)[0], obs, atol=1e-5, rtol=1e-5)
            assert float(outcome.reward[0]) == pytest.approx(float(reward), abs=1e-5)
            assert bool(outcome.terminated[0]) == terminated
            over, length, ended = terminated or truncated, length + 1, ended + terminated
        lengths.append(length)
    assert max(lengths) <= env.spec.max_episode_steps  # type: ignore[union-attr, operator]
    assert ended or id == "Pendulum-v1" or random == 1.0  # so the ends were compared too


@pytest.mark.parametrize("id", WORLDS)
def test_episodes_begin_and_are_cut_as_gymnasium_s(id: str) -> None:
    env = tensor_env(id, 512, None, {}, {}, seed=3)
    theirs = gym.make_vec(id, 512, vectorization_mode="sync")
    ours, other = env.reset(seed=1).numpy(), theirs.reset(seed=1)[0]  # type: ignore[union-attr]
    assert ours.shape == other.shape
    np.testing.assert_allclose(ours.min(0), other.min(0), atol=0.05)
    np.testing.assert_allclose(ours.max(0), other.max(0), atol=0.05)
    np.testing.assert_allclose(ours.mean(0), other.mean(0), atol=0.15)
    assert env.limit == gym.spec(id).max_episode_steps
    assert tensor_env(id, 1, 7, {}, {}, seed=0).limit == 7


def test_a_car_at_the_left_wall_stops() -> None:
    for id, action in (("MountainCar-v0", torch.tensor([0])), ("MountainCarContinuous-v0", torch.tensor([[-1.0]]))):
        kind, own = WORLDS[id]
        after = kind(**own).step(torch.tensor([[-1.19, -0.05]], dtype=torch.float64), action, torch.Generator()).state
        torch.testing.assert_close(after[0], torch.tensor([-1.2, 0.0], dtype=torch.float64), atol=1e-6, rtol=0.0)


USUAL: dict[str, Any] = {
    "num_envs": 2,
    "backend": "tensor",
    "autoreset": "same_step",
    "max_episode_steps": None,
    "extra": None,
    "kwargs": {},
    "wrappers": [],
    "seed": 0,
}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            {"id": "HalfCheetah-v5"},
            "env.backend=tensor has no HalfCheetah-v5; it has CartPole-v1, Pendulum-v1, Acrobot",
        ),
        ({"stack": 4}, "env.backend=tensor takes no env.stack=4; use env.backend=auto"),
        ({"wrappers": [gym.Wrapper]}, "env.backend=tensor takes no env.wrappers"),
        ({"reads": {"speed": "last"}}, "env.backend=tensor takes no hooks that read info"),
        ({"kwargs": {"g": 9.0}}, "env.kwargs: CartPole-v1 on tensors takes no argument 'g'"),
        ({"kwargs": {"masked": ["y"]}}, "env.world.masked: y is not known"),
    ],
)
def test_what_it_does_not_have_is_refused(words: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError) as caught:
        make(**{"id": "CartPole-v1", **USUAL, **words})
    assert why in str(caught.value)
