"""The worlds of several equally good ways are what their first lines say."""

import math

import pytest
import torch
from running import compose

from pgrun.config.resolve import resolved
from pgrun.envs.goals import BimodalBandit, MultiGoal
from pgrun.errors import UserError
from pgrun.run.environments import make_env

RNG = torch.Generator()


def env_of(*overrides, num_envs=4):
    return make_env(resolved(compose(*overrides, f"num_envs={num_envs}")))


# ---- four goals


def test_a_step_on_the_plane_and_its_costs():
    world = env_of("env=multi_goal").world
    state = torch.tensor([[0.0, 0.0], [3.5, 0.0], [-1.0, 3.5], [6.8, -6.5]])
    action = torch.tensor([[0.5, -0.5], [1.0, 0.0], [1.0, 0.6], [1.0, -1.0]])
    out = world.step(state, action, RNG)
    assert torch.allclose(out.state, torch.tensor([[0.5, -0.5], [4.5, 0.0], [0.0, 4.1], [7.0, -7.0]]))
    costs = [30.0 * 0.5 + 4.5**2 + 0.5**2, 30.0 + 0.25, 30.0 * 1.36 + 0.81, 30.0 * 2.0 + 4.0 + 49.0]
    assert out.reward.tolist() == pytest.approx([-costs[0], 10.0 - costs[1], 10.0 - costs[2], -costs[3]], rel=1e-5)
    assert out.terminated.tolist() == [False, True, True, False]
    assert {name: x.tolist() for name, x in out.streams.items()} == {
        "goal_east": [0.0, 1.0, 0.0, 0.0],
        "goal_west": [0.0] * 4,
        "goal_north": [0.0, 0.0, 1.0, 0.0],
        "goal_south": [0.0] * 4,
    }


def test_every_goal_is_as_good():
    """Straight to each at one speed from the middle: the same return, and its own stream."""
    world = env_of("env=multi_goal").world
    state, total, ends = torch.zeros(4, 2), torch.zeros(4), torch.zeros(4)
    for _ in range(8):
        out = world.step(state, 0.55 * world.goals / 5.0, RNG)
        total += out.reward * (1 - ends)
        ends = ends.maximum(out.terminated.float())
        state = out.state
        reached = torch.stack(list(out.streams.values()))
    assert ends.eq(1.0).all()
    assert torch.equal(reached, torch.eye(4))
    assert torch.allclose(total, total[:1].expand(4))
    assert total[0] < -100.0


def test_only_the_goals_that_are_named_pay_and_end():
    """Those left out neither pay nor end; the distance that costs is to the nearest of those that there are."""
    world = env_of("env=multi_goal", "env.world.goals=[north,west]").world
    state, action = torch.tensor([[4.5, 0.0], [0.0, 4.5], [-4.5, 0.0]]), torch.zeros(3, 2)
    out = world.step(state, action, RNG)
    assert out.terminated.tolist() == [False, True, True]
    assert out.reward.tolist() == pytest.approx([-(4.5**2 + 25.0), 10.0 - 0.25, 10.0 - 0.25])
    assert {name: x.tolist() for name, x in out.streams.items()} == {
        "goal_north": [0.0, 1.0, 0.0],
        "goal_west": [0.0, 0.0, 1.0],
    }


@pytest.mark.parametrize("goals", [[], ["north", "north"]])
def test_no_goal_and_one_goal_twice_are_refused(goals):
    costs = {"goal_reward": 10.0, "action_cost": 1.0, "distance_cost": 1.0, "spread": 0.1}
    with pytest.raises(UserError, match=r"env\.world\.goals=.* each once"):
        MultiGoal(distance=5.0, radius=1.0, **costs, goals=goals)


def test_starts_lie_round_the_middle():
    world = env_of("env=multi_goal").world
    start = world.initial(20_000, RNG)
    assert start.mean(0).abs().max() < 0.005
    assert start.std(0).tolist() == pytest.approx([0.1, 0.1], abs=0.003)


def test_standing_still_lasts_thirty_steps():
    env = env_of("env=multi_goal", num_envs=2)
    env.reset(0)
    for i in range(30):
        step = env.step(torch.zeros(2, 2))
        assert bool(step.last.all()) == (i == 29)
        assert step.discount.eq(1.0).all()


@pytest.mark.parametrize(("distance", "radius"), [(1.3, 1.0), (7.5, 1.0)])
def test_goals_that_overlap_or_lie_outside_are_refused(distance, radius):
    with pytest.raises(UserError, match=r"env\.world\.distance=.* must lie between"):
        MultiGoal(distance=distance, radius=radius, goal_reward=10.0, action_cost=1.0, distance_cost=1.0, spread=0.1)


# ---- two modes


def test_the_bandits_two_modes_pay_the_same():
    world = env_of("env=bimodal_bandit").world
    action = torch.tensor([[-0.5], [0.5], [-0.3], [0.9], [0.0]])
    out = world.step(torch.zeros(5, 1), action, RNG)
    expect = [1.0, 1.0, math.exp(-0.5), math.exp(-2.0), math.exp(-0.5 * 2.5**2)]
    assert out.reward.tolist() == pytest.approx(expect, rel=1e-5)
    assert out.terminated.all()
    assert out.streams["mode_left"].tolist() == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert (out.streams["mode_left"] + out.streams["mode_right"]).eq(1.0).all()


def test_modes_that_are_no_actions_are_refused():
    for modes in ([0.5, -0.5], [-1.5, 0.0]):
        with pytest.raises(UserError, match=r"env\.world\.modes=.* from −1 to 1"):
            BimodalBandit(modes=modes, width=0.1)
