"""Groups of start states: through every backend, in the collector, over a resume; and who can't is refused."""

import gymnasium as gym
import numpy as np
import pytest
import torch
import worlds
from running import same
from transitions import adapter

from pgrun.collect.episodes import Episodes
from pgrun.data.plain import CantCapture, encode
from pgrun.data.types import Transition, map_transition
from pgrun.envs.state import copies_of, copy_axes
from pgrun.envs.tensor import TensorEnv
from pgrun.envs.worlds import CartPole
from pgrun.errors import UserError

WAYS = {
    "native": lambda n: adapter("CartPole-v1", num_envs=n, backend="native"),
    "sync": lambda n: adapter("CartPole-v1", num_envs=n, backend="sync"),
    "sync next step": lambda n: adapter("CartPole-v1", num_envs=n, backend="sync", autoreset="next_step"),
    "async": lambda n: adapter("CartPole-v1", num_envs=n, backend="async"),
    "tensors": lambda n: TensorEnv(world=CartPole(masked=[]), num_envs=n, max_episode_steps=500, seed=0),
    "box2d": lambda n: adapter("LunarLander-v3", num_envs=n),
    "mujoco": lambda n: adapter("Hopper-v5", num_envs=n),
}
QUICK = [name for name in WAYS if name not in ("async", "mujoco")]


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("group", [2, 3])  # of six; and of four, where a native state is a square
def test_a_group_is_one_episode_under_the_same_actions(name, group):
    n = 2 * group
    env = WAYS[name](n)
    assert env.ungrouped == ""
    obs = env.reset(5, group=group)
    discrete = isinstance(env.action_space, gym.spaces.Discrete)
    rng, open_ = torch.Generator().manual_seed(0), torch.ones(n, dtype=torch.bool)
    assert torch.equal(obs, obs[::group].repeat_interleave(group, 0))
    assert not torch.equal(obs[0], obs[group])
    steps = 0
    while open_.all():
        draw = torch.randint(2, (1,), generator=rng) if discrete else torch.rand(1, 3, generator=rng) * 2 - 1
        step = env.step(draw.expand(n, *draw.shape[1:]).contiguous())
        for x in (step.next_obs, step.reward, step.discount, step.last):
            assert torch.equal(x, x[::group].repeat_interleave(group, 0))
        open_ &= ~step.last
        steps += 1
    assert steps > 5
    env.close()


@pytest.mark.parametrize("name", QUICK)
def test_the_seed_decides_the_groups(name):
    env = WAYS[name](4)
    first, other = env.reset(5, group=2), env.reset(6, group=2)
    env.step(torch.zeros(4, dtype=torch.int64))
    again = env.reset(5, group=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(row) for row in env.reset(5).tolist()}) == 4  # without groups all differ
    env.close()


def test_a_group_of_one_is_as_before():
    for name in QUICK:
        env = WAYS[name](4)
        assert torch.equal(env.reset(5), env.reset(5, group=1))
        env.close()


# ---- the collector


class Policy:
    """Draws actions; what it draws depends on the global generator alone."""

    device = torch.device("cpu")

    def __init__(self, space):
        self.space = space

    def act(self, obs, carry, explore):
        return torch.randint(int(self.space.n), (len(obs),)), carry, {}

    def initial_carry(self, num_envs):
        return ()


def collector(name, n=6, group=3, seed=7):
    env = WAYS[name](n)
    return Episodes(env=env, episodes=n, device="cpu", seed=seed, group=group), Policy(env.action_space)


@pytest.mark.parametrize("name", [*QUICK, "async"])
def test_every_environment_runs_one_episode_of_its_group(name):
    episodes, policy = collector(name)
    rollouts = [episodes.collect(policy) for _ in range(3)]
    starts = set()
    for rollout in rollouts:
        assert (rollout.last & rollout.valid).sum(0).tolist() == [1] * 6
        for b in range(6):
            end = int((rollout.last & rollout.valid)[:, b].nonzero())
            assert rollout.valid[: end + 1, b].all()
            assert not rollout.valid[end + 1 :, b].any()
        first = rollout.obs[0]
        assert torch.equal(first, first[::3].repeat_interleave(3, 0))
        assert len({tuple(rollout.obs[5, b].tolist()) for b in range(6)}) > 2  # they part
        starts |= {tuple(row) for row in first.tolist()}
    assert len(starts) == 6  # two in each of three rollouts
    assert episodes.stats.count == 18
    episodes.env.close()


@pytest.mark.parametrize("name", QUICK)
def test_groups_go_on_from_a_snapshot(name):
    """Each rollout's seed says all, so even what can't give up its state (box2d) goes on exactly."""
    one, policy = collector(name)
    torch.manual_seed(0)
    for _ in range(2):
        one.collect(policy)
    saved, generator = one.snapshot(), torch.get_rng_state()
    want = [one.collect(policy) for _ in range(2)]
    two, _ = collector(name)
    assert two.restore(saved) == (name != "box2d")
    torch.set_rng_state(generator)
    got = [two.collect(policy) for _ in range(2)]
    assert all(same(tuple(a), tuple(b)) for a, b in zip(got, want, strict=True))
    assert same(one.stats.snapshot(), two.stats.snapshot())
    three, _ = collector(name, seed=8)
    assert not torch.equal(three.collect(policy).obs[0], map_transition(lambda x: x[0], want[0]).obs)


def test_collecting_leaves_the_policys_numbers_alone():
    for name in ("native", "sync", "tensors"):
        episodes, policy = collector(name)
        torch.manual_seed(0)
        rollout: Transition = episodes.collect(policy)
        torch.manual_seed(0)
        want = torch.stack([torch.randint(2, (6,)) for _ in range(len(rollout.action))])
        assert torch.equal(rollout.action, want)


# ---- who can't


def line(env, episodes, group):
    with pytest.raises(UserError) as caught:
        Episodes(env=env, episodes=episodes, device="cpu", seed=0, group=group)
    env.close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_who_cant_is_refused():
    said = line(adapter("CartPole-v1", num_envs=4, backend="envpool"), 4, 2)
    assert "can't start 2 copies in one state (its copies can't be seeded one by one)" in said
    assert "env.backend=sync" in said
    assert "env.num_envs=7 can't be cut into groups of 2; use env.num_envs=6" in line(WAYS["sync"](7), 7, 2)
    assert "use env.num_envs=3" in line(WAYS["sync"](2), 2, 3)
    assert "one episode a rollout" in line(WAYS["sync"](4), 8, 2)

    class Old:
        num_envs = 4

        def close(self):
            pass

    assert "it has no groups" in line(Old(), 4, 2)


class Lucky(worlds.SelfKeeping):
    """Starts where no seed says."""

    snapshot = restore = None  # type: ignore[assignment]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.array([np.random.default_rng().random()], np.float32), {}


def test_starts_that_the_seed_does_not_decide_are_told():
    gym.register("Lucky-v0", entry_point=Lucky)
    episodes = Episodes(env=adapter("Lucky-v0", num_envs=4), episodes=4, device="cpu", seed=0, group=2)
    with pytest.raises(UserError, match="a group start in different states"):
        episodes.collect(Policy(gym.spaces.Discrete(2)))


class Batch:
    """Natively vectorised: arrays over the copies along any axis, or something odd."""

    def __init__(self, n, odd=None):
        self.a, self.b, self.c, self.shared = np.zeros((n, 3)), np.zeros((2, n)), np.arange(n), np.zeros(4)
        self.num_envs, self.rng = n, np.random.default_rng(0)
        if odd is not None:
            self.odd = odd(n)

    def reset(self, seed=None):
        pass


def test_which_axis_runs_over_the_copies():
    axes = copy_axes(Batch(2), Batch(3))
    assert axes == {"a": 0, "b": 1, "c": 0}
    state = {"a": encode(np.arange(8).reshape(4, 2)), "b": encode(np.arange(8).reshape(2, 4)), "n": 4}
    moved = copies_of(state, {"a": 0, "b": 1}, np.array([0, 0, 2, 2]))
    assert same(moved["a"], encode(np.array([[0, 1], [0, 1], [4, 5], [4, 5]])))
    assert same(moved["b"], encode(np.array([[0, 0, 2, 2], [4, 4, 6, 6]])))
    assert moved["n"] == 4


@pytest.mark.parametrize(
    "odd",
    [
        lambda n: [0.0] * n,
        lambda n: (np.zeros(n), 1),
        lambda n: {"x": np.zeros(n)},
        lambda n: np.zeros((n, n)),
        lambda n: np.zeros(2 * n),
        lambda n: None if n == 2 else 1,
        lambda n: torch.zeros(n),
    ],
)
def test_a_state_over_the_copies_in_an_odd_way_is_told(odd):
    with pytest.raises(CantCapture, match=r"Batch\.odd runs over the copies in a way of its own"):
        copy_axes(Batch(2, odd), Batch(3, odd))
