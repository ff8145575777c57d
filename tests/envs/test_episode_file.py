"""Episodes to a file and back, from evaluation and from Minari; files that are wrong."""

import json

import gymnasium as gym
import minari
import numpy as np
import pytest
import torch
from minari.data_collector.episode_buffer import EpisodeBuffer
from torch.testing import assert_close

from pgrun.data.types import Transition
from pgrun.envs.codecs import action_codec
from pgrun.envs.episode_file import canonical, describe, episodes, load, save
from pgrun.envs.make import make
from pgrun.errors import UserError

spaces = gym.spaces
OBS, BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Box(-1.0, 1.0, (2,), np.float32)
DISCRETE = spaces.Discrete(4)


def rollout(t=9, b=4, *, dictionary=False, discrete=False, log_prob=True):
    """Episodes that terminate, are truncated, and are cut by the rollout's end, with filler rows."""
    g = torch.Generator().manual_seed(3)
    obs, next_obs = torch.randn(2, t, b, 3, generator=g)
    last = torch.rand(t, b, generator=g) < 0.3
    terminated = last & (torch.rand(t, b, generator=g) < 0.5)
    valid = torch.ones(t, b, dtype=torch.bool)
    valid[1:] &= ~(last[:-1] & (torch.rand(t - 1, b, generator=g) < 0.5))
    last &= valid
    valid[6:, 0] = False
    # the successor of a step is what is seen next, where there is a next one
    after = torch.cat([obs[1:], next_obs[-1:]])
    goes_on = torch.cat([~last[:-1] & valid[1:], torch.zeros(1, b, dtype=torch.bool)])
    next_obs = torch.where(goes_on.unsqueeze(-1), after, next_obs)
    action = torch.randint(4, (t, b), generator=g) if discrete else torch.randn(t, b, 2, generator=g)

    def seen(x):
        return {"x": x, "y": x[..., :1] * 2} if dictionary else x

    extras = {"log_prob": torch.randn(t, b, generator=g)} if log_prob else {}
    discount = 1.0 - (terminated & last).float()
    return Transition(seen(obs), action, torch.randn(t, b, generator=g), discount, seen(next_obs), last, valid, extras)


def naive_episodes(data):
    """[[(t, b), …], …] of the valid steps, in the order of columns."""
    found = []
    for b in range(data.reward.shape[1]):
        now = []
        for t in range(data.reward.shape[0]):
            if data.valid[t, b]:
                now.append((t, b))
            if now and (data.last[t, b] or t == data.reward.shape[0] - 1):
                found.append(now)
                now = []
    return found


def test_episodes_as_columns():
    data = rollout()
    split, want = episodes(data), naive_episodes(data)
    assert split.reward.shape == (max(map(len, want)), len(want))
    for e, steps in enumerate(want):
        n = len(steps)
        index = tuple(torch.tensor(steps).T)
        for name in ("obs", "action", "reward", "discount", "next_obs"):
            assert torch.equal(getattr(split, name)[:n, e], getattr(data, name)[index])
        assert split.valid[:, e].tolist() == [True] * n + [False] * (len(split.valid) - n)
        assert split.last[:n, e].tolist() == [False] * (n - 1) + [True]


@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("log_prob", [False, True])
def test_a_file_holds_what_was_written(tmp_path, dictionary, discrete, log_prob):
    space = spaces.Dict({"x": OBS, "y": spaces.Box(-9.0, 9.0, (1,), np.float32)}) if dictionary else OBS
    act = DISCRETE if discrete else BOX
    split = episodes(rollout(dictionary=dictionary, discrete=discrete, log_prob=log_prob))
    path = tmp_path / "new" / "demos.npz"
    save(path, split, env_id="Some-v0", obs_space=space, action_space=act)
    back = load(str(path), space, act)
    flat = [split, back]
    for one, two in zip(*([*(x.obs.values() if dictionary else [x.obs])] for x in flat), strict=True):
        assert torch.equal(one, two)
    for name in ("action", "reward", "discount", "last", "valid"):
        assert torch.equal(getattr(split, name), getattr(back, name)), name
    mine, theirs = ((x.next_obs["x"] if dictionary else x.next_obs) for x in flat)
    assert torch.equal(mine[split.valid], theirs[split.valid])
    assert back.extras.keys() == ({"log_prob"} if log_prob else set())
    if log_prob:
        assert torch.equal(split.extras["log_prob"], back.extras["log_prob"])
    with np.load(path) as archive:
        assert str(archive["env_id"]) == "Some-v0"
        assert json.loads(str(archive["action_space"])) == describe(act)


def arrays(**changes):
    """A file made by hand: two episodes, of two steps and of one."""
    a = {
        "observations": np.zeros((3, 3)),
        "actions": np.array([0, 1, 2]),
        "rewards": [1.0, 2.0, 3.0],
        "terminations": np.array([False, True, True]),
        "truncations": np.zeros(3, dtype=bool),
        "episode_starts": np.array([True, False, True]),
        **changes,
    }
    return {key: value for key, value in a.items() if value is not None}


def test_a_file_made_by_hand(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    data = load(str(tmp_path / "a.npz"), OBS, DISCRETE)
    assert data.reward.tolist() == [[1.0, 3.0], [2.0, 0.0]]
    assert data.discount.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert data.obs.dtype == torch.float32


WRONG = {
    "it has no actions": arrays(actions=None),
    "rewards should have 3": arrays(actions=np.zeros(2, dtype=int)),
    "an episode's start": arrays(episode_starts=np.array([False, False, True])),
    "goes on after its end": arrays(terminations=np.array([True, True, True])),
    "final_observations must say": arrays(terminations=np.array([False, False, True])),
    "should have 2 rows, one for each episode": arrays(final_observations=np.zeros((1, 3))),
    "has the shape (2,)": arrays(observations=np.zeros((3, 2))),
    "should lie in 0 … 3": arrays(actions=np.array([0, 1, 4])),
    "not finite": arrays(rewards=np.array([1.0, np.nan, 0.0])),
    "has the action_space": arrays(action_space=json.dumps(describe(BOX))),
    "format 2": arrays(format=2),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_refused_in_one_line(what, tmp_path):
    path = tmp_path / "wrong.npz"
    np.savez(path, **WRONG[what])
    with pytest.raises(UserError) as error:
        load(str(path), OBS, DISCRETE)
    assert what.replace("rewards should have 3", "should have 3 rows") in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_a_torn_one_and_one_of_something_else(tmp_path):
    np.savez(tmp_path / "whole.npz", **arrays())
    (tmp_path / "torn.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    (tmp_path / "text.npz").write_text("observations: none")
    np.save(tmp_path / "one.npz", np.zeros(3))
    np.savez(tmp_path / "objects.npz", **arrays(rewards=np.array([{}, {}, {}], dtype=object)))
    for name, says in (
        *((f"{name}", "no file of demonstrations") for name in ("torn.npz", "text.npz", "objects.npz")),
        ("one.npz.npy", "no file of demonstrations"),
        ("none.npz", "there is no file"),
    ):
        with pytest.raises(UserError, match=says):
            load(str(tmp_path / name), OBS, DISCRETE)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=2),
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, 2]]),  # type: ignore[list-item]
        spaces.MultiBinary(3),
        spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32)),
        spaces.Box(-np.inf, np.inf, (2, 2)),
    ],
)
def test_an_environments_actions_as_a_policys(space):
    space.seed(0)
    actions = np.stack([space.sample() for _ in range(20)])
    mine, to_env = action_codec(space)
    policys = canonical(space, actions)
    assert all(mine.contains(a.astype(mine.dtype) if a.ndim else int(a)) for a in policys)
    assert_close(torch.from_numpy(np.asarray(to_env(torch.from_numpy(policys)))), torch.from_numpy(actions))


@pytest.fixture
def pendulum_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = gym.make("Pendulum-v1", max_episode_steps=6)
    env.action_space.seed(1)
    buffers = []
    for seed in range(3):
        seen, rows, done = [env.reset(seed=seed)[0]], [], False
        while not done:
            action = env.action_space.sample()
            obs, reward, terminated, truncated, _ = env.step(action)
            seen.append(obs)
            rows.append((action, float(reward), terminated, truncated))
            done = terminated or truncated
        action, reward, terminated, truncated = map(np.array, zip(*rows, strict=True))
        buffers.append(
            EpisodeBuffer(
                id=seed,
                observations=np.stack(seen),
                actions=action,
                rewards=reward,
                terminations=terminated,
                truncations=truncated,
            )
        )
    return minari.create_dataset_from_buffers("tests/pendulum-v0", buffers, env=env, eval_env=env)


def test_a_dataset_of_minaris(pendulum_dataset):
    env = make(
        **{"id": "Pendulum-v1", "num_envs": 1, "backend": "sync", "autoreset": "same_step", "max_episode_steps": None},
        **{"extra": None, "kwargs": {}, "wrappers": (), "seed": 0},
    )
    data = load("minari:tests/pendulum-v0", env.obs_space, env.action_space)
    assert data.reward.shape == (6, 3)
    for e, episode in enumerate(pendulum_dataset.iterate_episodes()):
        assert_close(data.obs[:, e], torch.from_numpy(episode.observations[:-1]))
        assert_close(data.next_obs[:, e], torch.from_numpy(episode.observations[1:]))
        assert_close(2.0 * data.action[:, e], torch.from_numpy(episode.actions))  # Pendulum's torque is in [−2, 2]
        assert_close(data.reward[:, e], torch.from_numpy(episode.rewards).float())
    assert bool((data.discount == 1).all())  # cut, not ended
    with pytest.raises(UserError, match="minari:tests/none-v0 can't be read"):
        load("minari:tests/none-v0", env.obs_space, env.action_space)
    with pytest.raises(UserError, match="observation_space"):
        load("minari:tests/pendulum-v0", OBS.__class__(-1.0, 1.0, (5,), np.float32), env.action_space)
