"""Worlds of tensors keep the promises of every vector environment."""

import io

import faulty
import gymnasium as gym
import numpy as np
import pytest
import torch
from running import same

from pgrun.envs.classic import tensor_env
from pgrun.envs.codecs import action_codec
from pgrun.envs.tensor import Outcome, TensorEnv, World, canonical
from pgrun.errors import UserError

spaces = gym.spaces


class Count(World):
    """Counts from a drawn start in steps of 1 and ends at the next multiple of ten; each step pays the new count."""

    obs_space, action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Discrete(2)

    def initial(self, n, rng):
        tens = torch.randint(1000, (n,), generator=rng)
        return torch.stack([tens * 10 + 3 + torch.randint(5, (n,), generator=rng), tens * 10], -1)

    def observe(self, state):
        return state.float()

    def step(self, state, action, rng):
        after = state + torch.tensor([1, 0])
        noise = torch.rand(len(state), generator=rng)
        return Outcome(after, after[:, 0].double(), after[:, 0] % 10 == 0, {"noise": noise})


def env_of(num_envs=4, limit=None, seed=0, world=None):
    return TensorEnv(world=world or Count(), num_envs=num_envs, max_episode_steps=limit, seed=seed)


def play(env, steps):
    return [env.step(torch.zeros(env.num_envs, dtype=torch.int64)) for _ in range(steps)]


@pytest.mark.parametrize("limit", [None, 5, 4])
def test_every_row_by_hand(limit):
    env = env_of(limit=limit)
    obs, t = env.reset(1), [0] * 4
    ends = {"terminated": 0, "cut": 0, "both": 0}
    for step in play(env, 60):
        for i in range(4):
            count, base = obs[i].tolist()
            t[i] += 1
            over, cut = count + 1 == base + 10, t[i] == limit
            assert step.next_obs[i].tolist() == [count + 1, base]
            assert float(step.reward[i]) == count + 1
            assert float(step.discount[i]) == (0.0 if over else 1.0)
            assert bool(step.last[i]) == (over or cut)
            if over or cut:
                ends["both" if over and cut else "terminated" if over else "cut"] += 1
                t[i] = 0
                assert 3 <= step.obs[i, 0] - step.obs[i, 1] < 8  # a fresh start
            else:
                assert torch.equal(step.obs[i], step.next_obs[i])
        assert step.valid.all()
        assert (step.obs is step.next_obs) == (not step.last.any())
        assert step.reward.dtype == step.discount.dtype == step.obs.dtype == torch.float32
        obs = step.obs
    assert (ends["cut"] > 0, ends["both"] > 0) == (limit is not None, limit is not None)
    assert ends["terminated"] > 0


def test_the_seed_decides_and_the_global_generator_does_not():
    def story(seed, made_with=0):
        env = env_of(seed=made_with)
        return [env.reset(seed), *(x for step in play(env, 30) for x in (step.obs, step.streams["noise"]))]

    first = story(1)
    torch.manual_seed(5)
    assert same(first, story(1, made_with=9))
    assert not same(first, story(2))
    env = env_of()
    env.reset(1)
    assert not torch.equal(env.reset(), first[0])  # without a seed it goes on
    assert torch.equal(env.reset(1), first[0])


def test_its_numbers_are_not_those_that_a_policy_draws():
    env = env_of(64)
    start = env.reset(7)[:, 1] / 10
    drawn = torch.randint(1000, (64,), generator=torch.Generator().manual_seed(7))
    assert (start == drawn).float().mean() < 0.2


def test_a_fresh_one_goes_on_from_a_snapshot():
    env = env_of(limit=5)
    env.reset(3)
    play(env, 17)
    file = io.BytesIO()
    torch.save(env.snapshot(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    want = [tuple(step) for step in play(env, 40)]
    other = env_of(limit=5, seed=8)
    other.reset(77)
    other.restore(saved)
    assert same([tuple(step) for step in play(other, 40)], want)
    other.restore(saved)  # a snapshot is no view
    assert same([tuple(step) for step in play(other, 40)], want)


def test_groups_start_alike_and_differ_from_one_another():
    env = env_of(12)
    obs = env.reset(3, group=4).unflatten(0, (3, 4))
    assert torch.equal(obs, obs[:, :1].expand_as(obs))
    assert len({tuple(row) for row in obs[:, 0].tolist()}) == 3
    step = env.step(torch.zeros(12, dtype=torch.int64))
    assert len(set(step.streams["noise"].tolist())) == 12  # what happens next is each copy's own
    assert env.ungrouped == ""


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, 1.0, (2,), np.float32),
        spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)),
        spaces.Box(np.array([0.0, -np.inf], np.float32), np.array([4.0, np.inf], np.float32)),
        spaces.Box(-1.0, 3.0, (2, 1), np.float32),
        spaces.Box(-np.inf, np.inf, (2,), np.float32),
    ],
)
def test_actions_are_rescaled_as_gymnasiums_are(space):
    seen, rescale = canonical(space)
    want, theirs = action_codec(space)
    action = 2.0 * torch.randn(50, 2)
    assert seen == want
    assert rescale(action).shape == (50, *space.shape)
    assert torch.allclose(rescale(action), torch.from_numpy(theirs(action)))


def test_other_actions_are_refused():
    with pytest.raises(UserError, match="use Discrete or Box"):
        canonical(spaces.MultiBinary(2))
    with pytest.raises(UserError, match="use Discrete or Box"):
        canonical(spaces.Discrete(3, start=1))


@pytest.mark.parametrize("kind", faulty.BAD_WORLDS, ids=lambda kind: kind.__name__)
def test_what_a_world_returns_is_checked_at_its_first_reset_and_step(kind):
    def begin():
        env = env_of(3, world=kind())
        env.reset(1)
        play(env, 1)

    with pytest.raises(UserError) as refused:
        begin()
    assert str(refused.value) == faulty.BAD_WORLDS[kind].replace("NAME", f"faulty.{kind.__name__}")


def test_it_is_checked_once():
    class Later(faulty.Drift):
        steps = 0

        def step(self, state, action, rng):
            self.steps += 1
            outcome = super().step(state, action, rng)
            return tuple(outcome) if self.steps > 1 else outcome

    env = env_of(3, world=Later())
    env.reset(1)
    assert len(play(env, 3)) == 3


CLASSIC = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"]


@pytest.mark.slow  # the first operations on `meta` take seconds
@pytest.mark.parametrize("id", CLASSIC)
def test_classic_control_makes_no_tensor_where_its_states_are_not(id):
    """On the device `meta` an operation with a tensor of the CPU's is an error, as on a GPU."""
    env = tensor_env(id, 3, None, {}, {}, 0)
    world, meta = env.world, torch.device("meta")
    for name, x in vars(world).items():
        if isinstance(x, torch.Tensor):
            setattr(world, name, x.to(meta))
    state = env.state.to(meta)
    kind = torch.int64 if isinstance(env.action_space, spaces.Discrete) else torch.float32
    action = torch.zeros(3, *env.action_space.shape, dtype=kind, device=meta)
    _, rescale = canonical(world.action_space, meta)
    outcome = world.step(state, rescale(action), env.rng)
    assert {x.device for x in (outcome.state, outcome.reward, outcome.terminated, world.observe(state))} == {meta}
    assert world.anywhere


def test_a_world_moves_with_its_generator():
    """As if it came from elsewhere: what it then does is what a new one there does."""
    env = tensor_env("Pendulum-v1", 3, None, {}, {}, 5)
    env.step(torch.ones(3, 1))
    env.device = torch.device("meta")
    env.place(torch.device("cpu"))
    fresh = tensor_env("Pendulum-v1", 3, None, {}, {}, 5)
    fresh.reset(5)
    assert same(env.snapshot(), fresh.snapshot())
    before = env.rng
    env.place(torch.device("cpu"))  # it is there
    assert env.rng is before


def test_a_world_that_says_nothing_stays_on_the_cpu():
    env = env_of()
    env.place(torch.device("meta"))
    assert (env.device.type, env.state.device.type) == ("cpu", "cpu")


def test_a_state_of_another_device_goes_on_with_a_generator_from_here():
    env = env_of()
    state = {**env.snapshot(), "rng": torch.zeros(16, dtype=torch.uint8)}  # as long as a GPU's
    env.step(torch.zeros(4, dtype=torch.int64))
    rng = env.rng.get_state()
    env.restore(state)
    assert same(env.state, state["state"])
    assert torch.equal(env.rng.get_state(), rng)
