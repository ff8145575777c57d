"""Critic fits against least squares: a linear critic's answers are known."""

from typing import Any

import pytest
import torch
from fitted import BOX, DISCRETE, flat, make, network, rollout
from running import parts
from torch.testing import assert_close

from pgrun.algos.parts.critic_fit import Regression, TrustRegion
from pgrun.algos.trpo import TRPO
from pgrun.algos.vpg import VPG

LINEAR: dict[str, Any] = {"hidden": []}


def trust_region(delta, **changes):
    return TrustRegion(**{"delta": delta, "cg_iterations": 50, "cg_tolerance": 1e-12, "damping": 1e-12, **changes})


def values(algorithm, batch):
    """V(s) at the valid steps [M]."""
    with torch.no_grad():
        return algorithm.model.critic(batch.obs)[batch.valid]


def design(batch):
    """The features of a linear critic at the valid steps: the observations and a one, [M, 4]."""
    x = batch.obs[batch.valid]
    return torch.cat([x, torch.ones_like(x[:, :1])], -1)


def linear(**changes):
    """An algorithm whose critic is linear, and a rollout with targets that it can't meet."""
    algorithm = make(VPG, net=network(**LINEAR), **changes)
    batch = algorithm.estimate(rollout())
    batch.extras["target"] += 5.0
    return algorithm, batch, batch.extras["target"][batch.valid]


def critic(algorithm):
    return flat(algorithm.model.critic.parameters())


def test_regression_is_gradient_descent_on_the_mean_square():
    algorithm, batch, target = linear(critic_fit=Regression(epochs=3, minibatch=10_000, lr=0.05))
    x, w = design(batch), critic(algorithm)
    losses = []
    for _ in range(3):
        error = x @ w - target
        losses.append(0.5 * error.square().mean())
        w = w - 0.05 * x.T @ error / len(x)
    metrics = algorithm.critic_fit(algorithm, batch)
    assert_close(critic(algorithm), w)
    assert_close(metrics["loss/value"], torch.stack(losses).mean())


def test_regression_takes_epochs_of_minibatches_and_the_optimizers_rate():
    algorithm, batch, _ = linear(critic_fit=Regression(epochs=5, minibatch=20, lr=None))
    seen = []
    loss = algorithm.value_step.loss
    algorithm.value_step.loss = lambda part: seen.append(part.reward.numel()) or loss(part)
    algorithm.critic_fit(algorithm, batch)
    assert seen == [20] * 15  # 64 steps, of which 4 are left over
    assert algorithm.value_step.optimizer.lr == 0.1


def test_the_rate_of_the_critic_is_its_own_if_given():
    algorithm = make(VPG, critic_fit=Regression(epochs=1, minibatch=20, lr=0.01))
    algorithm.set_progress(0.5)
    assert (algorithm.policy_step.optimizer.lr, algorithm.value_step.optimizer.lr) == (0.1, 0.01)


@pytest.mark.parametrize("delta", [1e-4, 0.01, 0.2])
def test_a_linear_critic_goes_to_the_boundary_along_the_least_squares_solution(delta):
    algorithm, batch, target = linear(critic_fit=trust_region(delta))
    x, before = design(batch), critic(algorithm)
    best = torch.linalg.lstsq(x, target.unsqueeze(-1)).solution.squeeze(-1)
    v_old = values(algorithm, batch)
    sigma2 = (v_old - target).square().mean()
    metrics = algorithm.critic_fit(algorithm, batch)
    v = values(algorithm, batch)
    distance = (v - v_old).square().mean() / (2.0 * sigma2)
    assert float(distance) == pytest.approx(delta, rel=1e-8)
    assert_close(metrics["value/distance"], distance)
    assert_close(metrics["loss/value"], 0.5 * sigma2)
    moved, all_the_way = critic(algorithm) - before, best - before
    assert_close(torch.cosine_similarity(moved, all_the_way, 0), torch.ones((), dtype=v.dtype))
    assert moved.norm() < all_the_way.norm()


@pytest.mark.parametrize("delta", [0.5, 10.0])
def test_where_nothing_bounds_it_the_least_squares_solution_is_reached(delta):
    """½ is as far as the minimum can be: σ² is the error that there is."""
    algorithm, batch, target = linear(critic_fit=trust_region(delta))
    algorithm.critic_fit(algorithm, batch)
    best = torch.linalg.lstsq(design(batch), target.unsqueeze(-1)).solution.squeeze(-1)
    assert_close(critic(algorithm), best, rtol=1e-6, atol=1e-8)


def test_of_all_steps_as_long_none_lowers_the_error_more():
    algorithm, batch, target = linear(critic_fit=trust_region(0.02))
    x, before, v_old = design(batch), critic(algorithm), values(algorithm, batch)
    algorithm.critic_fit(algorithm, batch)
    step = critic(algorithm) - before
    length = (x @ step).square().mean()
    reached = (x @ (before + step) - target).square().mean()
    for _ in range(100):
        other = step + 0.2 * step.norm() * torch.randn_like(step)
        other = other * (length / (x @ other).square().mean()).sqrt()
        assert (v_old + x @ other - target).square().mean() > reached


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("delta", [0.01, 0.1, 0.5])
def test_a_network_stays_in_the_region_and_its_error_falls(dtype, delta):
    shortened = 0
    for seed in range(12):
        torch.manual_seed(seed)
        fit = trust_region(delta, cg_iterations=10, cg_tolerance=1e-5, damping=1e-4)
        algorithm = make(TRPO, dtype=dtype, critic_fit=fit)
        batch = algorithm.estimate(rollout(dtype=dtype))
        target, v_old = batch.extras["target"][batch.valid], values(algorithm, batch)
        sigma2 = (v_old - target).square().mean()
        metrics = algorithm.critic_fit(algorithm, batch)
        v = values(algorithm, batch)
        distance = float((v - v_old).square().mean() / (2.0 * sigma2))
        assert 0.0 < distance <= delta * (1.0 + 2e-3)
        assert (v - target).square().mean() < sigma2
        assert float(metrics["value/step_fraction"]) > 0.0
        shortened += float(metrics["value/step_fraction"]) < 1.0
        if float(metrics["value/step_fraction"]) == 1.0 and delta < 0.1:
            assert distance > 0.5 * delta
    assert shortened > 0


def test_a_critic_that_is_right_stays():
    algorithm, batch, _ = linear(critic_fit=trust_region(0.1))
    batch.extras["target"] = algorithm.model.critic(batch.obs).detach()
    before = critic(algorithm)
    metrics = algorithm.critic_fit(algorithm, batch)
    assert torch.equal(critic(algorithm), before)
    assert float(metrics["loss/value"]) < 1e-10


@pytest.mark.parametrize("fit", ["regression", "trust_region"])
@pytest.mark.parametrize("space", [DISCRETE, BOX])
def test_a_fit_leaves_the_policy_alone(fit, space):
    chosen = trust_region(0.1, damping=1e-3) if fit == "trust_region" else Regression(epochs=3, minibatch=8, lr=None)
    algorithm = make(TRPO, action_space=space, critic_fit=chosen)
    batch = algorithm.estimate(rollout(space))
    policy, before = flat(algorithm.actor), critic(algorithm)
    algorithm.critic_fit(algorithm, batch)
    assert torch.equal(flat(algorithm.actor), policy)
    assert not torch.equal(critic(algorithm), before)


@pytest.mark.parametrize("fit", [trust_region(0.1, damping=1e-3), Regression(epochs=2, minibatch=10_000, lr=None)])
def test_filler_rows_change_nothing(fit):
    algorithm = make(VPG, critic_fit=fit)
    batch = algorithm.estimate(rollout())
    wrong = torch.where(batch.valid, batch.extras["target"], 1e3 * torch.ones_like(batch.extras["target"]))
    start, found = {key: value.clone() for key, value in algorithm.state_dict().items()}, []
    for target in (batch.extras["target"], wrong):
        algorithm.load_state_dict(start)
        algorithm.critic_fit(algorithm, batch._replace(extras={**batch.extras, "target": target}))
        found.append(critic(algorithm))
    assert_close(*found, rtol=1e-9, atol=1e-11)
    assert not torch.equal(found[0], flat([start[k] for k in start if ".critic." in k]))


@pytest.mark.parametrize("fit", ["regression", "trust_region"])
def test_a_critic_with_a_memory(fit):
    net = ("network=gru", "network.size=8", "network.shared=false", "network.sequence=16")
    p = parts("algo=vpg", f"algo/critic_fit={fit}", "env=cartpole_pomdp", *net, "num_envs=4", "algo.rollout=32")
    a = p.algorithm
    batch = a.estimate(p.collector.collect(a))
    target, valid = batch.extras["target"], batch.valid

    def error():
        return float((a.model.value(batch).detach() - target)[valid].square().mean())

    before = error()
    a.critic_fit(a, batch)
    assert error() < before


def test_a_critic_fit_is_chosen_on_the_command_line():
    a = parts("algo=trpo", "algo/critic_fit=trust_region", "algo.critic_fit.delta=0.3").algorithm
    assert isinstance(a.critic_fit, TrustRegion)
    assert a.critic_fit.delta == 0.3
    assert a.value_step is None
    assert isinstance(parts("algo=trpo").algorithm.critic_fit, Regression)


@pytest.mark.slow
def test_compiled_steps_are_the_eager_ones():
    """The policy's and the critic's, of one algorithm."""
    small = ("env=cartpole", "num_envs=4", "network.hidden=[8]", "algo.rollout=32")
    once = ("algo.critic_fit.epochs=1", "algo.critic_fit.minibatch=128")
    a, p = (parts("algo=vpg", *small, *once, f"compile={c}") for c in ("true", "false"))
    p.algorithm.load_state_dict(a.algorithm.state_dict())
    rollout = p.collector.collect(p.algorithm)
    one, two = a.algorithm.update(rollout), p.algorithm.update(rollout)
    assert_close(one, two, rtol=1e-4, atol=1e-6)
    assert_close(a.algorithm.state_dict(), p.algorithm.state_dict(), rtol=1e-3, atol=1e-5)
    assert a.algorithm.policy_step.compile_seconds > 0.0
    assert a.algorithm.value_step.compile_seconds > 0.0
