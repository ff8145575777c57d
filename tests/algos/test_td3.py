"""TD3 and DDPG: their targets worked out row by row, their delay, their noise, and what they learn."""

import math

import pytest
import torch
from by_hand import batch, q_value
from probes import Trained, run
from running import compose, parts
from torch.testing import assert_close

from pgrun.errors import UserError, WrongSpace
from pgrun.run.build import build

SMALL = ("env=pendulum", "network.hidden=[16]", "memory.warmup=40", "memory.capacity=200", "memory.batch_size=16")


def algorithm(*overrides):
    """An algorithm whose networks and targets have come apart."""
    a = parts(*overrides, *SMALL).algorithm
    with torch.no_grad():
        for p in a.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return a


@pytest.mark.parametrize("algo", ["td3", "ddpg"])
def test_the_target(algo):
    a, rows = algorithm(f"algo={algo}", "algo.gamma=0.9"), batch()
    noise = torch.randn(16, 1) if algo == "td3" else None
    want, clipped, least = [], 0, set()
    for m in range(16):
        s = rows.next_obs[m]
        action = float(a.actor_target(s))
        if noise is not None:
            epsilon = max(-0.5, min(0.5, float(noise[m])))
            clipped += abs(action + epsilon) > 1.0
            action = max(-1.0, min(1.0, action + epsilon))
        qs = [q_value(a.q_target, i, s, torch.tensor([action])) for i in range(2 if algo == "td3" else 1)]
        least.add(qs.index(min(qs)))
        want.append(float(rows.reward[m]) + 0.9 * float(rows.discount[m]) * min(qs))
    assert_close(a.target(rows, noise), torch.tensor(want))
    assert len(least) == (2 if algo == "td3" else 1)
    assert a.q.k == len(least)


def test_target_actions_are_clipped_and_in_the_box():
    a, rows = algorithm("algo=td3", "algo.target_noise=3", "algo.target_noise_clip=0.4"), batch(64)
    seen = []
    a.q_target.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    before = a.actor_target(rows.next_obs)
    a.update(rows)
    (action,) = seen
    assert float(action.abs().max()) <= 1.0
    off = (action - before).abs()
    assert float(off.max()) == pytest.approx(0.4)  # such noise is all but always clipped
    assert int((off > 0.399).sum()) > 30


def test_ddpg_smooths_nothing():
    a, rows = algorithm("algo=ddpg"), batch()
    seen = []
    a.q_target.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    want = a.actor_target(rows.next_obs)
    before = torch.get_rng_state()
    a.update(rows)
    assert_close(seen[0], want)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("algo", ["td3", "ddpg"])
def test_the_actors_gradient_is_the_chain_rule(algo):
    """∇_θμ(s) ∇_aQ_1(s, a) at a = μ(s), state by state."""
    a, rows = algorithm(f"algo={algo}"), batch()
    parameters = list(a.actor.parameters())
    want = [torch.zeros_like(p) for p in parameters]
    for s in rows.obs:
        action = a.actor(s).detach().requires_grad_()
        (slope,) = torch.autograd.grad(a.q(s.unsqueeze(0), action.unsqueeze(0))[0, 0], action)
        for g, row in zip(want, torch.autograd.grad(a.actor(s)[0], parameters), strict=True):
            g -= slope[0] * row / 16
    loss, _ = a.actor_loss(rows.obs)
    assert_close(torch.autograd.grad(loss, parameters), tuple(want))


@pytest.mark.parametrize("delay", [1, 3])
def test_actor_and_targets_move_every_d_updates_and_both_by_tau(delay):
    a, rows, moved = algorithm("algo=td3", f"algo.policy_delay={delay}", "algo.tau=0.2"), batch(), []
    for i in range(7):
        q, phi, theta = a.theta_target.clone(), a.phi_target.clone(), a.actor_step.theta.clone()
        metrics = a.update(rows)
        if "loss/actor" in metrics:
            moved.append(i)
            assert not torch.equal(a.actor_step.theta, theta)
            assert_close(a.phi_target, 0.8 * phi + 0.2 * a.actor_step.theta)
            assert_close(a.theta_target, 0.8 * q + 0.2 * a.critic_step.theta)
        else:
            unmoved = ((a.theta_target, q), (a.phi_target, phi), (a.actor_step.theta, theta))
            assert all(torch.equal(x, y) for x, y in unmoved)
    assert moved == list(range(0, 7, delay))


def test_the_delay_goes_on_where_it_was():
    a, rows = algorithm("algo=td3"), batch()
    a.update(rows)
    other = algorithm("algo=td3")
    other.restore(a.snapshot())
    assert "loss/actor" not in other.update(rows)
    assert "loss/actor" in other.update(rows)


def test_the_actor_has_a_learning_rate_of_its_own():
    a = algorithm("algo=td3", "algo.actor_lr=0.01", "optimizer.lr=0.001")
    assert (a.actor_step.optimizer.lr, a.critic_step.optimizer.lr) == (0.01, 0.001)
    assert algorithm("algo=td3", "optimizer.lr=0.001").actor_step.optimizer.lr == 0.001


def test_weights_of_a_replay_by_priority():
    a, rows = algorithm("algo=td3", "algo.target_noise=0"), batch()
    weight, priority = torch.rand(16), torch.zeros(16)
    y = a.target(rows, None).detach()
    q = a.q(rows.obs, rows.action).detach()
    metrics = a.update(rows._replace(extras={"weight": weight, "priority": priority}))
    assert_close(metrics["loss/critic"], 0.5 * (weight * (q - y).square()).mean(-1).sum())
    assert_close(priority, (q - y).abs().amax(0))


# ---------------------------------------------------------------- exploration


def test_ornstein_uhlenbeck_noise_begins_anew_with_each_episode():
    p = parts("algo=td3", *SMALL, "algo/exploration=ou", "algo.exploration.sigma=0.05", "algo.rollout=12", "num_envs=2",
              "env.max_episode_steps=5", "collector.random_steps=0")  # fmt: skip
    torch.manual_seed(3)
    rollout = p.collector.collect(p.algorithm)
    torch.manual_seed(3)
    x = torch.zeros(2, 1)
    with torch.no_grad():
        mu = p.algorithm.actor(rollout.obs)
    for t in range(12):
        x = torch.zeros(2, 1) if t in (5, 10) else x
        x = 0.85 * x + torch.randn(2, 1)
        assert_close(rollout.action[t], (mu[t] + 0.05 * x).clamp(-1.0, 1.0), atol=1e-5, rtol=1e-4)
    assert rollout.last[4].all()
    assert_close(p.collector.carry[0], x, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("exploration", "sigma"), [("gaussian", 30.0), ("ou", 30.0), ("gaussian", 0.01)])
def test_explored_actions_stay_in_the_box(exploration, sigma):
    a = algorithm("algo=td3", f"algo/exploration={exploration}", f"algo.exploration.sigma={sigma}")
    obs = torch.randn(500, 3)
    carry = a.initial_carry(500)
    with torch.no_grad():
        action, carry, extras = a.act(obs, carry, True)
    assert float(action.abs().max()) <= 1.0
    assert extras == {}
    plain, same, _ = a.act(obs, carry, False)
    assert same is carry
    assert_close(plain, a.actor(obs))
    assert float((action - plain).abs().max()) < 10.0 * sigma


def test_without_noise_it_acts_as_it_would_anyway():
    a = algorithm("algo=td3", "algo/exploration=none")
    obs = torch.randn(5, 3)
    assert torch.equal(a.act(obs, (), True)[0], a.act(obs, (), False)[0])


def test_unbounded_coordinates_are_neither_squashed_nor_clipped():
    a = parts("algo=td3", "env=lqr", *SMALL[1:], "algo.exploration.sigma=5").algorithm
    assert a.actor.edge.tolist() == [math.inf]
    assert float(a.act(torch.randn(100, 2), (), True)[0].abs().max()) > 3.0


def test_what_is_refused():
    with pytest.raises(WrongSpace, match="needs Box actions"):
        parts("algo=td3", "env=cartpole", *SMALL[1:])
    config = compose("algo=td3", *SMALL)
    config.algo.exploration = {"_target_": "builtins.dict"}
    with pytest.raises(UserError, match="use algo/exploration=gaussian, none or ou"):
        build(config)


# ---------------------------------------------------------------- probes

GAMMA = 0.8
LEARN = (
    *("network=mlp", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}", "network.activation=relu"),
    *("optimizer.lr=0.005", "optimizer.schedule=linear", "total_steps=800", "memory.warmup=200"),
    *("memory.batch_size=64", "algo.tau=0.1", "algo.exploration.sigma=0.3", "memory.capacity=2000"),
)


def trained(algo, probe, *overrides):
    extra = (f"algo={algo}", f"env.id=Probe{probe}-v0", "+env.kwargs.continuous=true")
    return Trained(run(*extra, *LEARN, *overrides)[0].algorithm)


@pytest.mark.slow
def test_a_time_limit_is_bootstrapped_from_the_true_successor():
    value = trained("td3", "Phases").value([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.15)


@pytest.mark.slow
def test_it_finds_the_number_that_pays():
    assert trained("ddpg", "Match").action([1.0], [-1.0]) == pytest.approx([0.5, -0.5], abs=0.1)
