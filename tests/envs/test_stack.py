"""`env.stack`: the last observations as one, the oldest first, for vectors, images and dicts of them."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from running import same

from pgrun.envs.make import make
from pgrun.envs.stack import Stack
from pgrun.errors import UserError

spaces = gym.spaces
VECTOR = spaces.Box(np.float32(-1), np.array([1, 2], np.float32), (2,), np.float32)


class Counting(gym.Env):
    """Shows the number of its step, in any space; five steps an episode."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: gym.Space) -> None:
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.see(self.observation_space), {}

    def step(self, action):
        self.t += 1
        return self.see(self.observation_space), 1.0, False, self.t == 5, {}

    def see(self, space):
        if isinstance(space, spaces.Dict):
            mask = {"action_mask": np.array([1, self.t % 2], np.int8)}
            return {key: mask.get(key, self.see(part)) for key, part in space.items()}
        return np.full(space.shape, self.t, space.dtype)


def gym_env(**changes):
    given = {"id": "Pendulum-v1", "num_envs": 2, "backend": "sync", "autoreset": "same_step", "seed": 0}
    return make(**{**given, "max_episode_steps": None, "extra": None, "kwargs": {}, "wrappers": [], **changes})


def test_vectors_are_put_end_to_end_and_an_episode_s_first_fills_the_stack():
    env = Stack(Counting(VECTOR), 3, "Counting")
    assert env.observation_space == spaces.Box(
        np.array([-1] * 6, np.float32), np.array([1, 2] * 3, np.float32), (6,), np.float32
    )
    assert env.reset(seed=0)[0].tolist() == [0, 0, 0, 0, 0, 0]
    assert env.step(0)[0].tolist() == [0, 0, 0, 0, 1, 1]
    for _ in range(3):
        obs = env.step(0)[0]
    assert obs.tolist() == [2, 2, 3, 3, 4, 4]
    assert env.reset()[0].tolist() == [0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("shape", "dtype", "stacked"),
    [
        ((4, 6, 3), np.uint8, (2, 4, 6, 3)),
        ((4, 6), np.uint8, (2, 4, 6)),
        ((4, 6), np.float32, (8, 6)),
        ((), np.float32, (2,)),
    ],
)
def test_images_get_an_axis_in_front(shape, dtype, stacked):
    env = Stack(Counting(spaces.Box(0, 9, shape, dtype)), 2, "Counting")
    env.reset(seed=0)
    obs = env.step(0)[0]
    assert env.observation_space.contains(obs)
    assert obs.shape == stacked
    assert obs[0].max() == 0
    assert obs[-1].min() == 1


def test_each_part_of_a_dict_is_stacked_and_the_mask_is_not():
    space = {"place": VECTOR, "camera": spaces.Box(0, 255, (4, 6, 3), np.uint8), "action_mask": spaces.MultiBinary(2)}
    env = Stack(Counting(spaces.Dict(space)), 2, "Counting")
    env.reset(seed=0)
    obs = env.step(0)[0]
    assert {key: np.shape(part) for key, part in obs.items()} == {
        "place": (4,),
        "camera": (2, 4, 6, 3),
        "action_mask": (2,),
    }
    assert obs["place"].tolist() == [0, 0, 1, 1]
    assert obs["action_mask"].tolist() == [1, 1]


def test_copies_in_processes_and_after_a_snapshot_see_the_same():
    plain, envs = gym_env(), [gym_env(stack=3), gym_env(stack=3, backend="async")]
    try:
        first = plain.reset(seed=1)
        stacks = [env.reset(seed=1) for env in envs]
        assert torch.equal(stacks[0], torch.cat([first] * 3, -1))
        for t in range(205):  # over an episode's end, after 200
            action = torch.full((2, 1), 0.1 * (t % 7))
            steps, bare = [env.step(action) for env in envs], plain.step(action)
            assert same([*steps[0]], [*steps[1]])
            assert torch.equal(steps[0].next_obs[:, 6:], bare.next_obs)
            assert torch.equal(steps[0].obs[:, 6:], bare.obs)
            if t == 199:
                assert steps[0].last.all()
                assert torch.equal(steps[0].obs, torch.cat([bare.obs] * 3, -1))
        kept = envs[0].snapshot()
        after = [envs[0].step(action) for _ in range(3)]
        envs[0].restore(kept)
        again = [envs[0].step(action) for _ in range(3)]
        assert same([[*step] for step in after], [[*step] for step in again])
    finally:
        for env in (plain, *envs):
            env.close()


def test_where_it_means_nothing_it_is_refused():
    for space in (spaces.Discrete(3), spaces.Box(0, 1, (2, 3, 4, 5)), spaces.MultiDiscrete([2, 2])):
        with pytest.raises(
            UserError, match=r"env\.stack=4 is for vectors and images, and the observation of X is (a choice, )?in"
        ):
            Stack(Counting(space), 4, "X")
    several = spaces.Dict({"speed": spaces.Box(0, 1, (2,)), "gear": spaces.Discrete(3)})
    with pytest.raises(UserError, match=r"and observation\['gear'\] of X is a choice, in Discrete\(3\): use"):
        Stack(Counting(several), 4, "X")
    with pytest.raises(UserError, match=r"env\.backend=envpool takes no env\.stack=2"):
        gym_env(backend="envpool", stack=2)
    with pytest.raises(UserError, match=r"env\.stack=2 can't be put round one"):
        gym_env(id="CartPole-v1", backend="native", stack=2)
