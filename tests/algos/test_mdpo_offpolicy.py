"""Mirror descent on replay: what the loss is, what is renewed when, and that it learns."""

import pytest
import torch
from probes import Trained, run
from running import compose
from torch.testing import assert_close

from pgrun.run.build import build

REPLAY = (
    *("algo=mdpo_offpolicy", "env=pendulum", "network.hidden=[16]", "memory.warmup=40", "memory.capacity=200"),
    *("memory.batch_size=16", "num_envs=1"),
)


def set_eta(a, value):
    a.eta = torch.tensor(value) if torch.is_tensor(a.eta) else value


def soft(*overrides):
    """An off-policy algorithm, and rows that it could learn from."""
    a = build(compose(*REPLAY, *overrides)).algorithm
    return a, torch.randn(16, 3), torch.randn(16, 1), torch.tensor(0.2)


def test_the_loss_is_mirror_descent_on_the_soft_objective():
    """(1/η)(log π − log π_k) + α log π_k − min Q over many draws, with log π_k of the very draws."""
    a, obs, _, alpha = soft()
    with torch.no_grad():
        for p in a.actor.parameters():
            p.add_(0.1 * torch.randn_like(p))
    set_eta(a, 0.5)
    obs = obs[:2].repeat_interleave(100_000, 0)
    noise = torch.randn(len(obs), 1)
    with torch.no_grad():
        loss, metrics = a.actor_loss(obs, noise, alpha)
        action, log_prob = a.actor(obs).rsample(noise)
        old = a.actor_k(obs).log_prob(action)
        truth = (log_prob - old) / 0.5 + alpha * old - a.q(obs, action).amin(0)
        assert metrics["policy/kl"] > 0.01
        assert_close(loss, truth.mean(), atol=0.01, rtol=0.01)
        without = (alpha * log_prob - a.q(obs, action).amin(0)).mean()
        assert (truth.mean() - without).abs() > 0.03


@pytest.mark.parametrize("eta", [5.0, 100.0])
def test_with_a_long_step_it_is_sac(eta):
    """At 1/η = α nothing is left of π_k."""
    a, obs, noise, alpha = soft()
    with torch.no_grad():
        for p in a.actor.parameters():
            p.add_(0.1 * torch.randn_like(p))
    set_eta(a, eta)
    ours = torch.autograd.grad(a.actor_loss(obs, noise, alpha)[0], list(a.actor.parameters()))
    theirs = torch.autograd.grad(super(type(a), a).actor_loss(obs, noise, alpha)[0], list(a.actor.parameters()))
    assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_kl_holds_only_the_actor():
    a, obs, noise, alpha = soft()
    with torch.no_grad():
        for p in a.actor.parameters():
            p.add_(0.1)
    a.actor_loss(obs, noise, alpha)[0].backward()
    assert any(p.grad.any() for p in a.actor.parameters())
    assert not any(p.grad.any() for p in a.actor_k.parameters())


def test_the_policy_to_stay_near_is_renewed_every_m_updates():
    p = build(compose(*REPLAY, "algo.mirror_every=3"))
    a = p.algorithm
    while not (batches := list(p.memory.batches())):
        p.memory.add(p.collector.collect(a))
    renewed = []
    for i in range(8):
        before, theta = a.theta_k.clone(), a.actor_step.theta.clone()
        a.update(batches[0])
        if torch.equal(a.theta_k, theta) and i:
            renewed.append(i)
        else:
            assert torch.equal(a.theta_k, before)
        assert torch.equal(a.theta_k, torch.cat([q.flatten() for q in a.actor_k.parameters()]))
    assert renewed == [3, 6]


@pytest.mark.parametrize("learns", [True, False])
def test_the_temperature_is_fixed_unless_it_learns(learns):
    p, _ = run(*REPLAY, "total_steps=60", f"algo.learn_temperature={learns}", "algo.init_temperature=0.3")
    alpha = float(p.algorithm.log_alpha.detach().exp())
    assert (alpha == pytest.approx(0.3, abs=1e-6)) != learns


# ---------------------------------------------------------------- probes

GAMMA = 0.8
LEARN = (
    *("algo=mdpo_offpolicy", "network=mlp", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}"),
    *("optimizer.lr=0.005", "optimizer.schedule=linear", "total_steps=1000", "memory.warmup=200"),
    *("memory.batch_size=64", "algo.tau=0.1", "algo.init_temperature=1e-4", "algo.mirror_every=50"),
)


def trained(probe, *overrides):
    return Trained(run(*LEARN, f"env.id=Probe{probe}-v0", "+env.kwargs.continuous=true", *overrides)[0].algorithm)


@pytest.mark.slow
def test_a_time_limit_is_bootstrapped_from_the_true_successor():
    value = trained("Phases").value([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.15)


@pytest.mark.slow
def test_it_finds_the_number_that_pays():
    agent = trained("Match", "algo.init_temperature=0.05")
    assert agent.action([1.0], [-1.0]) == pytest.approx([0.5, -0.5], abs=0.1)
