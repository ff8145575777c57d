"""The first soft actor-critic: its targets by hand, what follows what, and the probes."""

import copy

import pytest
import torch
from probes import Trained, run
from running import parts
from torch.testing import assert_close

from pgrun.data.types import Transition

SMALL = ("algo=sac_v1", "env=pendulum", "network.hidden=[16]", "memory.capacity=100")


def made(*overrides):
    """The algorithm with a target network that is not the network itself, and rows to learn from."""
    torch.manual_seed(0)
    a = parts(*SMALL, *overrides).algorithm
    with torch.no_grad():
        for p in a.v_target.parameters():
            p.add_(0.1)
    m = 30
    discount = (torch.rand(m) < 0.7).float()
    yes = torch.ones(m, dtype=torch.bool)
    action = torch.rand(m, 1) * 2.0 - 1.0
    return a, Transition(torch.randn(m, 3), action, torch.randn(m), discount, torch.randn(m, 3), ~yes, yes, {})


def mlp(x, v):
    """V by hand, [M]."""
    layers = dict(v.encoder.layers.named_parameters())
    return (x @ layers["weight0"].T + layers["bias0"]).relu() @ v.head.weight[0] + v.head.bias[0]


@torch.no_grad()
def test_qs_target_by_hand():
    """5 r + γ V̄(s′) where the MDP went on, else 5 r."""
    a, batch = made("algo.reward_scale=5", "algo.gamma=0.9")
    v = mlp(batch.next_obs, a.v_target)
    assert not torch.allclose(v, mlp(batch.next_obs, a.v))
    expect = torch.where(batch.discount == 0, 5.0 * batch.reward, 5.0 * batch.reward + 0.9 * v)
    assert_close(a.target(batch), expect)


@torch.no_grad()
def test_vs_target_by_hand():
    """min_i Q_i(s, a) − α log π(a|s), a drawn from the policy and not from the replay."""
    a, batch = made("algo.temperature=0.3")
    noise = torch.randn(30, 1)
    base = a.actor(batch.obs).base
    u = base.mean + base.log_std.exp() * noise
    log_prob = torch.distributions.Normal(base.mean, base.log_std.exp()).log_prob(u) - (1.0 - u.tanh() ** 2).log()
    q = a.q(batch.obs, u.tanh())
    expect = torch.minimum(q[0], q[1]) - 0.3 * log_prob.squeeze(-1)
    assert_close(a.value_target(batch.obs, noise), expect, rtol=1e-4, atol=1e-4)
    loss, _ = a.value_loss(batch.obs, expect)
    assert_close(loss, 0.5 * (mlp(batch.obs, a.v) - expect).square().mean())
    actor, _ = a.actor_loss(batch.obs, noise)
    assert_close(actor, -expect.mean(), rtol=1e-4, atol=1e-5)


def test_the_slow_copy_is_of_v_and_follows_it():
    a, batch = made("algo.tau=0.25")
    before = [p.clone() for p in a.v_target.parameters()]
    online = copy.deepcopy(a.v)
    a.update(batch)
    assert not hasattr(a, "q_target")
    for old, first, now, target in zip(
        before, online.parameters(), a.v.parameters(), a.v_target.parameters(), strict=True
    ):
        assert not torch.equal(first, now)
        assert_close(target, 0.25 * now.detach() + 0.75 * old)


def test_scaling_the_reward_is_dividing_the_temperature():
    """Of the soft value of a fixed policy: with V, Q and r all times c, α = c means what α = 1 did."""
    a, batch = made("algo.temperature=1", "algo.reward_scale=1")
    b, _ = made("algo.temperature=4", "algo.reward_scale=4")
    noise = torch.randn(30, 1)
    with torch.no_grad():
        for x, y in ((a.q, b.q), (a.v_target, b.v_target), (a.actor, b.actor)):
            y.load_state_dict(x.state_dict())
        b.q.weights[-1].mul_(4.0), b.q.biases[-1].mul_(4.0)
        b.v_target.head.weight.mul_(4.0), b.v_target.head.bias.mul_(4.0)
        assert_close(b.value_target(batch.obs, noise), 4.0 * a.value_target(batch.obs, noise), rtol=1e-4, atol=1e-4)
        assert_close(b.target(batch), 4.0 * a.target(batch), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- probes

GAMMA = 0.8
LEARN = (
    *("algo=sac_v1", "network=mlp", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}"),
    *("optimizer.lr=0.008", "optimizer.schedule=linear", "total_steps=1000", "memory.warmup=200"),
    *("memory.batch_size=64", "num_envs=2", "algo.tau=0.1", "algo.temperature=1e-4", "algo.reward_scale=1"),
)


def trained(probe, *overrides):
    return Trained(run(*LEARN, f"env.id=Probe{probe}-v0", "+env.kwargs.continuous=true", *overrides)[0].algorithm)


@pytest.mark.slow
def test_a_time_limit_is_bootstrapped_from_the_true_successor():
    agent = trained("Phases")
    expect = [1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)]
    assert agent.value([1.0, 0.0], [0.0, 1.0]) == pytest.approx(expect, abs=0.15)
    with torch.no_grad():
        assert agent.algorithm.v(torch.eye(2)).tolist() == pytest.approx(expect, abs=0.15)


@pytest.mark.slow
def test_it_finds_the_number_that_pays():
    agent = trained("Match", "algo.temperature=0.05")
    assert agent.action([1.0], [-1.0]) == pytest.approx([0.5, -0.5], abs=0.1)
