"""Soft actor-critic with discrete actions: sums over actions written out, masks, the temperature, the probes."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from descent import PLAIN, descended
from probes import Trained, run
from recipes import sampled
from running import compose, parts
from torch.testing import assert_close

from pgrun.config.resolve import resolved
from pgrun.data.types import Transition
from pgrun.errors import WrongSpace
from pgrun.run.build import build, make_algorithm

SMALL = ("algo=sac_discrete", "env=acrobot", "network.hidden=[16]", "memory.capacity=100", "num_envs=1")


def made(*overrides):
    """The algorithm with three actions, a target network that is not the network, and rows to learn from."""
    torch.manual_seed(0)
    a = parts(*SMALL, *overrides).algorithm
    with torch.no_grad():
        for p in [*a.q_target.parameters(), *a.actor.parameters()]:
            p.add_(0.2 * torch.randn_like(p))
    m = 20
    discount = (torch.rand(m) < 0.7).float()
    yes = torch.ones(m, dtype=torch.bool)
    action = torch.randint(3, (m,))
    return a, Transition(torch.randn(m, 6), action, torch.randn(m), discount, torch.randn(m, 6), ~yes, yes, {})


def enumerated(a, q, obs, alpha):
    """Σ_a π(a|s) (min_i Q_i(s, a) − α log π(a|s)), action by action."""
    pi, total = a.actor(obs), 0.0
    for action in range(3):
        every = torch.full((len(obs),), action)
        log_prob = pi.log_prob(every)
        total = total + log_prob.exp() * (torch.minimum(*q(obs, every)) - alpha * log_prob)
    return total


def test_the_target_is_the_expectation_over_actions():
    a, batch = made("algo.gamma=0.9", "algo.init_temperature=0.4", *PLAIN)
    with torch.no_grad():
        y = batch.reward + 0.9 * batch.discount * enumerated(a, a.q_target, batch.next_obs, 0.4)
    loss, parameters = descended(a.q, batch, y)
    assert_close(a.update(batch)["loss/critic"], loss)
    assert_close([p.detach() for p in a.q.parameters()], parameters)


def test_the_actors_loss_and_gradient_are_those_of_the_sum():
    a, batch = made()
    alpha = torch.tensor(0.4)
    expect = -enumerated(a, a.q, batch.obs, alpha).mean()
    loss, metrics = a.actor_loss(batch.obs, alpha)
    assert_close(loss, expect)
    theirs, ours = (torch.autograd.grad(x, list(a.actor.parameters())) for x in (expect, loss))
    assert_close(ours, theirs)
    assert_close(metrics["policy/entropy"], a.actor(batch.obs).entropy().mean().detach())
    assert all(p.grad is None or not p.grad.any() for p in a.q.parameters())


def test_its_best_policy_is_the_softmax_of_q():
    """Where π = softmax(Q/α), no gradient is left."""
    a, batch = made()
    q = torch.tensor([0.3, -0.5, 1.1])
    a.q.all = lambda obs: q.expand(2, len(obs), -1)
    with torch.no_grad():
        a.actor.head.layer.weight.zero_()
        a.actor.head.layer.bias.copy_(q / 0.4)
    (grad,) = torch.autograd.grad(a.actor_loss(batch.obs, torch.tensor(0.4))[0], a.actor.head.layer.bias)
    assert grad.abs().max() < 1e-6
    (grad,) = torch.autograd.grad(a.actor_loss(batch.obs, torch.tensor(0.8))[0], a.actor.head.layer.bias)
    assert grad.abs().max() > 0.01


class Masked:
    """Where the spaces of a world with forbidden actions come from."""

    obs_space = gym.spaces.Dict(
        {"x": gym.spaces.Box(-1.0, 1.0, (2,), np.float32), "action_mask": gym.spaces.MultiBinary(4)}
    )
    action_space = gym.spaces.Discrete(4)
    num_envs = 1


@pytest.mark.parametrize("algo", ["sac_discrete", "sql"])
def test_forbidden_actions_are_neither_taken_nor_counted(algo):
    torch.manual_seed(0)
    a = make_algorithm(resolved(compose(f"algo={algo}", "env=acrobot", "network.hidden=[16]")), Masked)
    m = 50
    mask = torch.rand(m, 4) < 0.5
    mask[:, 2] = True
    obs = {"x": torch.randn(m, 2), "action_mask": mask.float()}
    with torch.no_grad():
        taken = torch.stack([a.act(obs, (), True)[0] for _ in range(30)])
        best, _, _ = a.act(obs, (), False)
    assert mask.gather(1, taken.T).all()
    assert mask.gather(1, best.unsqueeze(1)).all()
    assert set(taken.flatten().tolist()) == {0, 1, 2, 3}
    batch = Transition(obs, taken[0], torch.zeros(m), torch.ones(m), obs, mask[:, 0], mask[:, 2], {})
    metrics = a.update(batch)
    assert all(bool(x.isfinite()) for x in metrics.values())
    assert metrics["value/q"].abs() < 10.0
    assert metrics["loss/critic"] < 100.0  # nothing of the −1e9 of a forbidden one
    if algo == "sac_discrete":
        expect = 0.98 * sum(math.log(k) for k in mask.sum(1).tolist()) / m
        assert float(a.target_entropy(obs)) == pytest.approx(expect, rel=1e-5)
        assert float(a.target_entropy(obs["x"])) == pytest.approx(0.98 * math.log(4.0), rel=1e-6)


@pytest.mark.parametrize(("entropy", "sign"), [(0.9, -1.0), (0.1, 1.0)])
def test_the_temperature_moves_against_the_entropys_error(entropy, sign):
    a, _ = made()
    before = a.log_alpha.item()
    a.temperature_step(torch.tensor(entropy), torch.tensor(0.5))
    assert math.copysign(1.0, a.log_alpha.item() - before) == sign


@pytest.mark.parametrize("algo", ["sac", "sac_v1"])
def test_the_continuous_forms_name_it(algo):
    with pytest.raises(WrongSpace, match=r"can't act in Discrete\(2\): .* use algo=sac_discrete"):
        build(compose(f"algo={algo}"))


# ---------------------------------------------------------------- probes

GAMMA = 0.8
LEARN = (
    *("network=mlp", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}"),
    *("optimizer.lr=0.008", "optimizer.schedule=linear", "total_steps=1200", "memory.warmup=200"),
    *("memory.batch_size=64", "algo.tau=0.1", "num_envs=2"),
)
COLD = ("algo=sac_discrete", "algo.init_temperature=1e-4", "algo.entropy_fraction=0")


def trained(probe, *overrides):
    return Trained(run(*LEARN, f"env.id=Probe{probe}-v0", *overrides)[0].algorithm)


@pytest.mark.slow
def test_a_time_limit_is_bootstrapped_from_the_true_successor():
    value = trained("Phases", *COLD).value([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.15)


@pytest.mark.slow
def test_it_takes_the_action_that_pays():
    warm = ("algo=sac_discrete", "algo.init_temperature=0.1", "algo.entropy_fraction=0.3")
    assert trained("Match", *warm).action([1.0], [-1.0]) == [1, 0]


@pytest.mark.parametrize("share", sampled([0.4, 0.8], 2))
def test_the_temperature_drives_the_entropy_to_its_target(share):
    """One action pays 1: the entropy is a function of α alone, and α comes to where it is the target."""
    agent = trained("Choice", "algo=sac_discrete", f"algo.entropy_fraction={share}").algorithm
    with torch.no_grad():
        entropy = float(agent.actor(torch.zeros(1, 1)).entropy())
    assert entropy == pytest.approx(share * math.log(2.0), abs=0.06)
    p = 1.0 / (1.0 + math.exp(-1.0 / agent.log_alpha.exp().item()))  # what softmax(Q/α) takes of it
    assert -p * math.log(p) - (1 - p) * math.log(1 - p) == pytest.approx(share * math.log(2.0), abs=0.08)


@pytest.mark.slow
def test_the_continuous_temperature_does_too():
    overrides = ("algo=sac", "algo.target_entropy=-1", "algo.init_temperature=0.3", "total_steps=2400")
    agent = trained("Choice", *overrides, "+env.kwargs.continuous=true").algorithm
    with torch.no_grad():
        entropy = float(agent.actor(torch.zeros(4000, 1)).entropy().mean())
    assert entropy == pytest.approx(-1.0, abs=0.15)
