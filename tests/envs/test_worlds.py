"""Each shipped world of tensors is what its first lines say."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from running import compose

from pgrun.collect.random_actions import random_actions
from pgrun.config.resolve import resolved
from pgrun.envs.worlds import CartPole, ContextualBandit, Pendulum, RewardHack, SparseReach
from pgrun.errors import UserError
from pgrun.run.environments import make_env

RNG = torch.Generator()


def env_of(*overrides, num_envs=4):
    return make_env(resolved(compose(*overrides, f"num_envs={num_envs}")))


# ---- CartPole


def test_cartpole_is_gymnasiums():
    """Whole episodes of gymnasium's CartPole-v1, step by step from its own states."""
    theirs, mine = gym.make("CartPole-v1", disable_env_checker=True), CartPole(masked=[])
    rows, ends = [], []
    for episode in range(30):
        theirs.reset(seed=episode)
        theirs.action_space.seed(episode)
        over = False
        while not over:
            before, action = theirs.unwrapped.state, theirs.action_space.sample()
            obs, reward, terminated, truncated, _ = theirs.step(action)
            rows.append((np.array(before), action, obs, reward, terminated))
            over = terminated or truncated
        ends.append(abs(float(obs[0])) > 2.4)
    # and some that run off the track, or fall fast
    rng = np.random.default_rng(0)
    for state in rng.uniform(-1, 1, (200, 4)) * [2.45, 3.0, 0.22, 3.0]:
        theirs.reset()
        theirs.unwrapped.state, action = state, int(rng.integers(2))
        obs, reward, terminated, _, _ = theirs.step(action)
        rows.append((state, action, obs, reward, terminated))
    before, action, obs, reward, terminated = (np.array(column) for column in zip(*rows, strict=True))
    out = mine.step(torch.from_numpy(before), torch.from_numpy(action), RNG)
    assert out.state.dtype == torch.float64
    assert np.abs(mine.observe(out.state).numpy() - obs).max() < 1e-6
    assert np.array_equal(out.terminated.numpy(), terminated)
    assert np.array_equal(out.reward.numpy(), reward)
    assert 40 < terminated.sum() < len(rows)
    start = mine.initial(10_000, RNG)
    assert (start.min(), start.max()) == pytest.approx((-0.05, 0.05), abs=1e-4)
    assert mine.obs_space == theirs.observation_space


def test_cartpole_over_whole_episodes():
    """The same actions from the same start lead through the same observations, to the same end or the time limit."""
    theirs = gym.make("CartPole-v1", disable_env_checker=True)
    env = env_of("env=cartpole_pomdp", "env.world.masked=[]", num_envs=2)
    for seed, policy in enumerate([lambda o: int(o[2] + 0.5 * o[3] > 0), lambda o: int(o[2] > 0)]):
        obs, _ = theirs.reset(seed=seed)
        env.reset(0)
        env.state[0] = torch.from_numpy(theirs.unwrapped.state)
        length, over = 0, False
        while not over:
            action = policy(obs)
            obs, _, terminated, truncated, _ = theirs.step(action)
            step = env.step(torch.tensor([action, 0]))
            over, length = terminated or truncated, length + 1
            assert np.abs(step.next_obs[0].numpy() - obs).max() < 1e-4
            assert bool(step.last[0]) == over
            assert float(step.discount[0]) == 1.0 - terminated
        assert (length == 500) == (seed == 0)


def test_masks():
    env = env_of("env=cartpole_pomdp")
    assert env.obs_space.shape == (2,)
    obs = env.reset(0)
    assert torch.equal(obs, env.state[:, [0, 2]].float())
    assert env_of("env=cartpole_pomdp", "env.world.masked=[x]").reset(0).shape == (4, 3)
    with pytest.raises(UserError, match=r"env\.world\.masked: speed is not known; choose from x, x_dot"):
        CartPole(masked=["speed"])
    with pytest.raises(UserError, match=r"env\.world\.masked hides everything"):
        CartPole(masked=["x", "x_dot", "theta", "theta_dot"])


# ---- contextual bandit


@pytest.mark.parametrize("features", [None, 3])
def test_the_bandit_pays_the_best_arm(features):
    world = ContextualBandit(contexts=6, arms=4, features=features, noise=0.0, table_seed=1)
    again = ContextualBandit(contexts=6, arms=4, features=features, noise=0.0, table_seed=1)
    assert torch.equal(world.best, again.best)  # training's and evaluation's table
    assert torch.equal(world.looks, again.looks)
    context, arm = torch.cartesian_prod(torch.arange(6), torch.arange(4)).unbind(-1)
    out = world.step(context, arm, RNG)
    assert out.terminated.all()
    assert out.reward.view(6, 4).sum(1).eq(1.0).all()
    assert torch.equal(out.reward.view(6, 4).argmax(1), world.best)
    looks = world.observe(torch.arange(6))
    assert looks.shape == (6, features or 6)
    assert len({tuple(row) for row in looks.tolist()}) == 6  # told apart
    counts = torch.bincount(world.initial(6000, RNG), minlength=6)
    assert counts.sub(1000).abs().max() < 150


def test_the_bandits_noise():
    world = ContextualBandit(contexts=2, arms=2, features=None, noise=0.5, table_seed=0)
    context = torch.zeros(20_000, dtype=torch.int64)
    reward = world.step(context, world.best[context], RNG).reward
    assert reward.mean() == pytest.approx(1.0, abs=0.02)
    assert reward.std() == pytest.approx(0.5, abs=0.02)


# ---- sparse reach


def reach(num_envs):
    return env_of("env=sparse_reach", num_envs=num_envs)


def returns(env, act, steps):
    """Step a world; return each copy's total reward, and the discounts of rows that paid."""
    obs, total, discounts = env.reset(0), torch.zeros(env.num_envs), []
    for _ in range(steps):
        step = env.step(act(obs))
        obs = step.obs
        total += step.reward
        discounts += step.discount[step.reward > 0].tolist()
    return total, discounts


def test_steps_on_the_plane():
    world = SparseReach(start=[0.0, 0.0], goal=[0.5, 0.0], spread=0.0, radius=0.1, step=0.1)
    state = torch.tensor([[0.0, 0.0], [0.35, 0.0], [0.35, 0.0], [0.98, -0.95]])
    action = torch.tensor([[0.5, -1.0], [1.0, 0.0], [0.4, 0.0], [1.0, -1.0]])
    out = world.step(state, action, RNG)
    assert torch.allclose(out.state, torch.tensor([[0.05, -0.1], [0.45, 0.0], [0.39, 0.0], [1.0, -1.0]]))
    assert out.reward.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert out.terminated.tolist() == [False, True, False, False]
    assert torch.equal(world.initial(3, RNG), torch.zeros(3, 2))


def test_undirected_exploration_never_gets_there():
    env = reach(2000)
    draw = random_actions(env.action_space)
    assert returns(env, lambda obs: draw(2000), 60)[0].sum() == 0.0
    assert returns(env, lambda obs: torch.randn(2000, 2), 60)[0].sum() == 0.0  # an untrained Gaussian policy


def test_the_expert_gets_there():
    env = reach(500)
    total, discounts = returns(env, env.world.expert, 45)
    assert total.ge(1.0).all()
    assert set(discounts) == {0.0}
    assert env.world.expert(torch.tensor([[-0.8, 0.8], [0.79, 0.8]])).tolist() == [
        pytest.approx([1.0, 0.0]),
        pytest.approx([0.2, 0.0], abs=1e-4),
    ]


# ---- reward hack


def played(policy):
    """(points, what is wanted) of an episode under a policy, cell -> action."""
    env = env_of("env=reward_hack", num_envs=1)
    obs, points, wanted = env.reset(0), 0.0, 0.0
    while True:
        step = env.step(torch.tensor([policy(int(obs.argmax()))]))
        points, wanted, obs = points + float(step.reward), wanted + float(step.streams["return_true"]), step.obs
        if step.last[0]:
            return points, wanted, float(step.discount[0])


def test_the_two_policies_of_the_boat():
    right, circle = played(lambda cell: 2), played(lambda cell: 2 if cell < 2 else 0)
    assert right == (pytest.approx(4.0), pytest.approx(10.0 - 0.7), 0.0)
    assert circle == (pytest.approx(25.0), pytest.approx(-5.0), 1.0)


def best_policy(world, reward_of, gamma=0.99):
    """Value iteration over every (cell, action)."""
    cells = torch.arange(world.length)
    value = torch.zeros(world.length, dtype=torch.float64)
    outs = [world.step(cells, torch.full((world.length,), a), RNG) for a in range(3)]
    for _ in range(3000):
        q = torch.stack([reward_of(o).double() + gamma * ~o.terminated * value[o.state.clamp(max=world.length - 1)]
                         for o in outs])  # fmt: skip
        value = q.amax(0)
    return q.argmax(0).tolist()


def test_the_most_points_are_the_worst_race():
    """Who maximises the points ends with the least that can be had of what is wanted; who maximises that, with 9.3."""
    world = env_of("env=reward_hack").world
    hacker, sailor = best_policy(world, lambda o: o.reward), best_policy(world, lambda o: o.streams["return_true"])
    assert played(lambda cell: hacker[cell])[:2] == (pytest.approx(25.0), pytest.approx(-5.0))
    assert played(lambda cell: sailor[cell])[:2] == (pytest.approx(4.0), pytest.approx(9.3))


def test_a_buoy_outside_the_course_is_refused():
    with pytest.raises(UserError, match=r"env\.world\.buoy=7 must lie between .* 1 to 6"):
        RewardHack(length=8, buoy=7, finish_points=1.0)


# ---- Pendulum


def test_the_pendulum_is_gymnasiums():
    """Step by step from its own states, which no time limit ends, and over whole swings."""
    theirs, mine = gym.make("Pendulum-v1", disable_env_checker=True), Pendulum(masked=[])
    rng, rows = np.random.default_rng(0), []
    for state in rng.uniform(-1, 1, (300, 2)) * [12.0, 8.0]:
        theirs.reset(seed=0)
        theirs.unwrapped.state, action = state, rng.uniform(-2, 2, 1).astype(np.float32)
        obs, reward, terminated, *_ = theirs.step(action)
        rows.append((state, action, theirs.unwrapped.state, obs, reward, terminated))
    before, action, after, obs, reward, terminated = (np.array(column) for column in zip(*rows, strict=True))
    out = mine.step(torch.from_numpy(before), torch.from_numpy(action), RNG)
    assert out.state.dtype == torch.float64
    assert np.abs(out.state.numpy() - after).max() < 1e-6
    assert np.abs(mine.observe(out.state).numpy() - obs).max() < 1e-6
    assert np.abs(out.reward.numpy() - reward).max() < 1e-5
    assert not terminated.any()
    assert not out.terminated.any()
    assert (out.state[:, 1].abs() == 8.0).any()
    start = mine.initial(10_000, RNG)
    assert start.abs().amax(0).tolist() == pytest.approx([np.pi, 1.0], abs=2e-3)
    assert mine.obs_space == theirs.observation_space
    assert mine.action_space == theirs.action_space


def test_the_pendulums_velocity_is_hidden():
    env = env_of("env=pendulum_pomdp")
    obs = env.reset(0)
    assert env.obs_space.shape == (2,)
    assert torch.allclose(obs.norm(dim=-1), torch.ones(4))
    assert env.limit == 200
    with pytest.raises(UserError, match=r"env.world.masked: x_dot is not known; choose from x, y, theta_dot"):
        Pendulum(masked=["x_dot"])
    with pytest.raises(UserError, match="hides everything: leave one of x, y, theta_dot"):
        Pendulum(masked=["x", "y", "theta_dot"])
