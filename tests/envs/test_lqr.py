"""The linear-quadratic world: its step in plain numbers, and its best gain by an independent solver."""

import numpy as np
import pytest
import torch
from running import compose
from scipy.linalg import solve_discrete_are
from torch.testing import assert_close

from pgrun.config.resolve import resolved
from pgrun.envs.lqr import LinearQuadratic
from pgrun.errors import UserError
from pgrun.run.environments import make_env

A, B = [[1.0, 0.2], [0.1, 0.9]], [[0.1, 0.0], [0.3, 0.5]]
Q, R = [[1.0, 0.1], [0.1, 0.5]], [[0.2, 0.0], [0.0, 0.4]]
RNG = torch.Generator()


def world(**changes):
    keys = {"dynamics": A, "control": B, "state_cost": Q, "effort_cost": R, "noise": 0.0, "spread": 1.0}
    return LinearQuadratic(**{**keys, **changes})


def test_a_step():
    state, action = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 2)
    out = world().step(state, action, RNG)
    for s, a, after, reward in zip(state.numpy(), action.numpy(), out.state.numpy(), out.reward.numpy(), strict=True):
        assert after == pytest.approx(np.array(A) @ s + np.array(B) @ a)
        assert reward == pytest.approx(-(s @ np.array(Q) @ s + a @ np.array(R) @ a))
    assert not out.terminated.any()


def test_noise_and_starts():
    noisy = world(noise=0.3)
    out = noisy.step(torch.zeros(20_000, 2, dtype=torch.float64), torch.zeros(20_000, 2), RNG)
    assert out.state.std(0).tolist() == pytest.approx([0.3, 0.3], rel=0.03)
    start = world(spread=0.5).initial(10_000, RNG)
    assert (float(start.min()), float(start.max())) == pytest.approx((-0.5, 0.5), abs=0.01)


@pytest.mark.parametrize("gamma", [0.8, 0.99, 1.0])
def test_the_gain_is_that_of_an_independent_solver(gamma):
    """Discounting is as if the dynamics were √γ A and √γ B."""
    a, b = np.sqrt(gamma) * np.array(A), np.sqrt(gamma) * np.array(B)
    p = solve_discrete_are(a, b, np.array(Q), np.array(R))
    want = np.linalg.solve(np.array(R) + b.T @ p @ b, b.T @ p @ a)
    assert_close(world().gain(gamma), torch.from_numpy(want), rtol=1e-8, atol=1e-10)


def test_no_other_gain_costs_less():
    """The discounted cost of following a gain, step by step from every corner."""
    it = world()

    def cost(gain):
        state, total = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), 0.0
        for t in range(400):
            out = it.step(state, -state @ gain.T, RNG)
            total -= 0.95**t * float(out.reward.sum())
            state = out.state
        return total

    best = it.gain(0.95)
    least = cost(best)
    for i in range(2):
        for j in range(2):
            for change in (-0.05, 0.05):
                other = best.clone()
                other[i, j] += change
                assert cost(other) > least * 1.0001


def test_the_shipped_problem():
    env = make_env(resolved(compose("env=lqr", "num_envs=3")))
    assert (env.obs_space.shape, env.action_space.shape) == ((2,), (1,))
    assert np.isinf(env.action_space.high).all()
    obs = env.reset(0)
    gain = env.world.gain(0.99).float()
    for t in range(50):
        step = env.step(-obs @ gain.T)
        obs = step.next_obs
        assert bool(step.last.all()) == (t == 49)
        assert bool(step.discount.all())  # a time limit
    assert float(obs.abs().max()) < 0.2  # at rest, but for the noise


@pytest.mark.parametrize("name", ["dynamics", "control", "state_cost", "effort_cost"])
def test_matrices_that_do_not_fit(name):
    with pytest.raises(UserError, match=r"env\.world\.\w+ has the shape .* it must be"):
        world(**{name: [[1.0, 0.0, 0.0]]})


def test_dynamics_that_nothing_holds():
    with pytest.raises(UserError, match="no feedback holds"):
        world(dynamics=[[2.0, 0.0], [0.0, 0.5]], control=[[0.0, 0.0], [1.0, 1.0]]).gain(0.99)
