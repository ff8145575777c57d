"""D4PG: the projected target row by row, the loss, the priorities, and what it learns."""

import math

import pytest
import torch
from probes import Trained, run
from running import parts
from torch.testing import assert_close

from pgrun.data.types import Transition
from pgrun.errors import UserError

SMALL = ("env=pendulum", "network.hidden=[16]", "memory.warmup=40", "memory.capacity=200", "memory.batch_size=12")
SUPPORT = ("algo.atoms=9", "algo.v_min=-4", "algo.v_max=4")


def algorithm(*overrides):
    """An algorithm whose networks and targets have come apart."""
    a = parts("algo=d4pg", *SMALL, *SUPPORT, "num_envs=2", *overrides).algorithm
    with torch.no_grad():
        for p in a.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return a


def batch(m=12, **extras):
    torch.manual_seed(0)
    return Transition(
        obs=torch.randn(m, 3),
        action=torch.rand(m, 1) * 2.0 - 1.0,
        reward=2.0 * torch.randn(m),
        discount=(torch.arange(m) % 3 > 0).float() * 0.81,  # γ² of a three-step return, and 0 at an end
        next_obs=torch.randn(m, 3),
        last=torch.zeros(m, dtype=torch.bool),
        valid=torch.ones(m, dtype=torch.bool),
        extras=extras,
    )


def test_the_target():
    a, rows = algorithm("algo.gamma=0.9"), batch()
    got = a.target(rows).detach()
    for m in range(12):
        s = rows.next_obs[m : m + 1]
        p = a.q_target(s, a.actor_target(s)).softmax(-1)[0].tolist()
        want = [0.0] * 9
        for j in range(9):
            y = float(rows.reward[m]) + 0.9 * float(rows.discount[m]) * (j - 4.0)
            at = min(max(y, -4.0), 4.0) + 4.0
            low = min(math.floor(at), 7)
            want[low] += p[j] * (low + 1 - at)
            want[low + 1] += p[j] * (at - low)
        assert_close(got[m], torch.tensor(want))
        if float(rows.discount[m]) == 0.0:
            assert int((got[m] > 1e-6).sum()) <= 2  # the end of the MDP: the reward, and nothing after it


def test_the_loss_is_the_cross_entropy_and_a_priority_is_the_kl():
    a = algorithm()
    weight, priority = torch.rand(12), torch.zeros(12)
    rows = batch(weight=weight, priority=priority)
    y = a.target(rows).detach()
    p = a.q(rows.obs, rows.action).detach().softmax(-1)
    metrics = a.update(rows)
    pairs = [list(zip(*row, strict=True)) for row in zip(y.tolist(), p.tolist(), strict=True)]
    cross = torch.tensor([-sum(s * math.log(t) for s, t in row) for row in pairs])
    kl = torch.tensor([sum(s * math.log(s / t) for s, t in row if s > 0.0) for row in pairs])
    assert_close(metrics["loss/critic"], (weight * cross).mean())
    assert_close(priority, kl, atol=1e-5, rtol=1e-4)
    assert float((cross - kl).min()) > 0.01  # what it would be without what no p could do better
    assert_close(metrics["value/q"], (p @ torch.linspace(-4.0, 4.0, 9)).mean())


def test_the_critic_fits_a_distribution():
    """Rewards of −1 and 2 by turns, at one state and action: the mean is not all that is learned."""
    a = algorithm("algo.gamma=0.0", "optimizer.lr=0.05")
    rows = batch(m=40)
    one = rows._replace(
        obs=torch.zeros(40, 3), action=torch.zeros(40, 1), reward=torch.tensor([-1.0, -1.0, -1.0, 2.0] * 10)
    )
    for _ in range(150):
        a.fit(one)
    p = a.q(one.obs[:1], one.action[:1]).detach().softmax(-1)[0]
    assert_close(p, torch.tensor([0.0, 0.0, 0.0, 0.75, 0.0, 0.0, 0.25, 0.0, 0.0]), atol=0.02, rtol=0.0)


def test_the_actors_gradient_climbs_the_mean():
    a, rows = algorithm(), batch()
    parameters = list(a.actor.parameters())
    want = [torch.zeros_like(p) for p in parameters]
    for s in rows.obs:
        action = a.actor(s).detach().requires_grad_()
        mean = (a.q(s, action).softmax(-1) * torch.arange(-4.0, 5.0)).sum()
        (slope,) = torch.autograd.grad(mean, action)
        for g, row in zip(want, torch.autograd.grad(a.actor(s)[0], parameters), strict=True):
            g -= slope[0] * row / 12
    assert_close(torch.autograd.grad(a.actor_loss(rows.obs)[0], parameters), tuple(want))


def test_both_targets_follow():
    a = algorithm("algo.tau=0.25")
    q, phi = a.theta_target.clone(), a.phi_target.clone()
    a.update(batch())
    assert_close(a.theta_target, 0.75 * q + 0.25 * a.critic_step.theta)
    assert_close(a.phi_target, 0.75 * phi + 0.25 * a.actor_step.theta)


def test_a_support_without_a_width_is_refused():
    with pytest.raises(UserError, match=r"algo\.v_min=3.* must be below algo\.v_max=3"):
        algorithm("algo.v_min=3", "algo.v_max=3")


GAMMA = 0.8
LEARN = (
    *("algo=d4pg", "network=mlp", "network.hidden=[32,32]", "network.activation=relu", "env=gym", "num_envs=2"),
    *(f"algo.gamma={GAMMA}", "optimizer.lr=0.01", "optimizer.schedule=linear", "total_steps=900", "memory.warmup=200"),
    *("memory.batch_size=64", "algo.tau=0.1", "algo.exploration.sigma=0.3", "memory.capacity=2000", "algo.atoms=21"),
    *("algo.v_min=-8", "algo.v_max=8", "algo.actor_lr=0.002"),
)


def trained(probe):
    return run(*LEARN, f"env.id=Probe{probe}-v0", "+env.kwargs.continuous=true")[0].algorithm


@pytest.mark.slow
def test_a_time_limit_is_bootstrapped_from_the_true_successor():
    a = trained("Phases")
    obs = torch.eye(2)
    with torch.no_grad():
        value = a.q(obs, a.actor(obs)).softmax(-1) @ a.z
    assert value.tolist() == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.2)


@pytest.mark.slow
def test_it_finds_the_number_that_pays():
    assert Trained(trained("Match")).action([1.0], [-1.0]) == pytest.approx([0.5, -0.5], abs=0.12)
