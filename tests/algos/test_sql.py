"""Soft Q-learning: its target by hand and by integration, compositions, and that it learns both modes."""

import math

import pytest
import torch
from descent import PLAIN, descended
from probes import Trained, run
from recipes import sampled
from running import compose, new_run, parts
from torch.testing import assert_close

from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.run import checkpoint
from pgrun.run.build import build

SMALL = ("network.hidden=[16]", "memory.capacity=100", "num_envs=1")
DISCRETE = ("algo=sql", "env=cartpole", *SMALL)
NUMBERS = ("algo=sql", "env=bimodal_bandit", *SMALL)


def rows(a, m=20):
    """Rows to learn from, in an algorithm's spaces."""
    n = a.obs_space.shape[0]
    action = torch.rand(m, 1) * 2.0 - 1.0 if a.action_space.shape else torch.randint(2, (m,))
    discount = (torch.rand(m) < 0.7).float()
    yes = torch.ones(m, dtype=torch.bool)
    return Transition(torch.randn(m, n), action, torch.randn(m), discount, torch.randn(m, n), ~yes, yes, {})


def made(*overrides):
    """The algorithm, with a target network that is not the network; it steps along the plain gradient."""
    torch.manual_seed(0)
    a = parts(*overrides, *PLAIN, "algo.gamma=0.9", "algo.temperature=0.4", "algo.reward_scale=2").algorithm
    with torch.no_grad():
        for p in a.q_target.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return a


def check_fit(a, batch, soft, **tolerance):
    """An update moves Q towards r + γ V_soft(s'), for these soft values of the successors."""
    loss, parameters = descended(a.q, batch, 2.0 * batch.reward + 0.9 * batch.discount * soft)
    metrics = a.update(batch)
    assert_close(metrics["loss/critic"], loss, **tolerance)
    assert_close(metrics["value/soft"], soft.mean(), **tolerance)
    assert_close([p.detach() for p in a.q.parameters()], parameters, **tolerance)


def test_with_discrete_actions_the_target_is_the_log_sum_exp():
    a = made(*DISCRETE)
    batch = rows(a)
    with torch.no_grad():
        q = [a.q_target(batch.next_obs, torch.full((20,), i))[0] for i in range(2)]
    soft = 0.4 * (torch.exp(q[0] / 0.4) + torch.exp(q[1] / 0.4)).log()
    check_fit(a, batch, soft)
    assert a.steps().keys() == {"critic_step"}


def test_with_continuous_actions_the_target_is_the_integral():
    a = made(*NUMBERS, "algo.value_samples=20000")
    batch = rows(a, 6)
    grid = torch.linspace(-1.0, 1.0, 2001)
    with torch.no_grad():
        q = torch.stack([a.q_target(batch.next_obs, x.expand(6, 1))[0] for x in grid])
    check_fit(a, batch, 0.4 * torch.trapezoid((q / 0.4).exp(), grid, dim=0).log(), atol=2e-3, rtol=2e-3)


def test_draws_of_the_policy_give_the_integral_of_the_target_networks():
    """Those of φ̄, which is not φ, at the Q of θ̄; uniform draws of the same number scatter around the same."""
    a = made(*NUMBERS, "algo.value_samples=20000", "algo.proposal=policy")
    with torch.no_grad():
        a.phi_target.mul_(1.1)
        a.actor.head.bias.add_(50.0)  # its own draws are useless
    batch = rows(a, 6)
    grid = torch.linspace(-1.0, 1.0, 2001)
    with torch.no_grad():
        q = torch.stack([a.q_target(batch.next_obs, x.expand(6, 1))[0] for x in grid])
    check_fit(a, batch, 0.4 * torch.trapezoid((q / 0.4).exp(), grid, dim=0).log(), atol=1e-2, rtol=1e-2)
    assert {slow.data_ptr() for slow, _ in a.targets()} == {a.theta_target.data_ptr(), a.phi_target.data_ptr()}
    assert a.targets()[1][1] is a.sampler_step.theta


@pytest.mark.parametrize("words", [DISCRETE, (*NUMBERS, "algo.sampler=mcmc")])
def test_draws_whose_density_is_not_known_are_no_proposal(words):
    with pytest.raises(UserError, match=r"^algo.proposal=policy needs draws whose density is known.*proposal=uniform"):
        parts(*words, "algo.proposal=policy")


def test_the_networks_gradient_is_svgds_direction_along_f():
    torch.manual_seed(0)
    a = parts(*NUMBERS).algorithm
    obs = torch.randn(3, 1)
    noise, delta = a.actor.transport(a.q, obs, 4)
    assert noise.shape == delta.shape == (3, 4, 1)
    loss, _ = a.sampler_loss(obs, noise, delta)
    ours = torch.autograd.grad(loss, a.actor.head.weight)[0]
    total = torch.zeros_like(ours)
    for m in range(3):
        for i in range(4):
            f = a.actor(obs[m : m + 1], noise[m : m + 1, i : i + 1]).squeeze()
            total -= delta[m, i, 0] * torch.autograd.grad(f, a.actor.head.weight)[0] / 12
    assert_close(ours, total)


@pytest.mark.parametrize("sampler", ["svgd", "mcmc"])
def test_evaluation_takes_the_best_of_the_draws(sampler):
    torch.manual_seed(0)
    a = parts(*NUMBERS, f"algo.sampler={sampler}", "algo.candidates=200").algorithm
    a.q.forward = lambda obs, action: -(action - 0.3 * obs).square().sum(-1).unsqueeze(0)
    obs = torch.tensor([[1.0], [-1.0]])
    with torch.no_grad():
        best, _, _ = a.act(obs, (), False)
        drawn = torch.stack([a.act(obs, (), True)[0] for _ in range(50)])
    assert_close(best, 0.3 * obs, atol=0.05, rtol=0.0)
    assert drawn.std(0).min() > 0.2


# ---------------------------------------------------------------- compositions


def shaken(*overrides, seed=0):
    """An algorithm that is unlike those of other seeds, and its tensors."""
    a = parts(*overrides, f"seed={seed}").algorithm
    with torch.no_grad():
        for p in a.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return a, {key: value.clone() for key, value in a.state_dict().items()}


@pytest.mark.parametrize("overrides", [DISCRETE, NUMBERS, (*NUMBERS, "algo.sampler=mcmc")])
def test_a_composition_is_the_mean_of_its_qs(overrides):
    (a, first), (b, second) = shaken(*overrides), shaken(*overrides, seed=1)
    c = parts_of_composition(overrides, {"A": first, "B": second})
    batch = rows(c)
    with torch.no_grad():
        mean = (a.q(batch.obs, batch.action) + b.q(batch.obs, batch.action)) / 2.0
        assert (a.q(batch.obs, batch.action) - b.q(batch.obs, batch.action)).abs().max() > 0.1
        assert_close(c.q(batch.obs, batch.action), mean)
        assert_close(c.q_target(batch.obs, batch.action), mean)
        if c.action_space.shape == ():
            every = (a.q.all(batch.obs) + b.q.all(batch.obs)) / 2.0
            assert torch.equal(c.act(batch.obs, (), False)[0], every[0].argmax(-1))
    before = c.critic_step.theta.clone()
    c.update(batch)
    assert not torch.equal(c.critic_step.theta, before)  # and it goes on learning


def parts_of_composition(overrides, runs):
    """A composition of runs that are only tensors."""
    a = build(compose(*overrides, f"algo.compose=[{','.join(runs)}]"), fresh=False).algorithm
    a.begin(runs.__getitem__)
    return a


def test_what_can_not_be_composed_is_refused():
    _, tensors = shaken(*DISCRETE)
    _, wide = shaken(*DISCRETE, "network.hidden=[24]")
    with pytest.raises(UserError, match=r"algo\.compose: B holds another network than this one: see q\.members\.0"):
        parts_of_composition(DISCRETE, {"A": tensors, "B": wide})
    both = parts_of_composition(DISCRETE, {"A": tensors, "B": tensors}).state_dict()
    with pytest.raises(UserError, match=r"algo\.compose: A is itself a mean of runs: name those"):
        parts_of_composition(DISCRETE, {"A": both})
    _, chains = shaken(*NUMBERS, "algo.sampler=mcmc")
    with pytest.raises(UserError, match=r"algo\.compose: A, for algo\.sampler=svgd, holds another"):
        parts_of_composition(NUMBERS, {"A": chains})


def test_runs_are_composed_and_resumed(tmp_path):
    small = (*DISCRETE, "network.hidden=[8]", "total_steps=40", "memory.warmup=20", "eval.final_episodes=1")
    small = (*small, "checkpoint.every=20", "eval.every=null")
    for seed in (0, 1):
        assert new_run(tmp_path / f"r{seed}", *small, f"seed={seed}").execute()["status"] == "finished"
    overrides = (*small, f"algo.compose=[{tmp_path / 'r0'},{tmp_path / 'r1'}]", "memory.warmup=1000")
    result = new_run(tmp_path / "mean", *overrides).execute()  # never an update: the composition as it is
    assert (result["status"], result["updates"]) == ("finished", 0)
    folders = [tmp_path / name / "checkpoints" / "latest.pt" for name in ("r0", "r1", "mean")]
    one, two, mean = (checkpoint.load(path)["algorithm"]["module"] for path in folders)
    key = "q.members.0.functions.weight1"
    assert torch.equal(mean[key], one[key])
    assert torch.equal(mean[key.replace("0", "1", 1)], two[key])
    for seed in (0, 1):
        (tmp_path / f"r{seed}").rename(tmp_path / f"gone{seed}")
    again = build(compose(*overrides), fresh=False).algorithm  # as a resumed run begins
    again.restore(checkpoint.load(tmp_path / "mean" / "checkpoints" / "latest.pt")["algorithm"])
    assert torch.equal(again.state_dict()[key], one[key])


@pytest.mark.parametrize("overrides", [DISCRETE, NUMBERS])
def test_a_run_is_gone_on_from_with_init_from(overrides):
    a, tensors = shaken(*overrides)
    b = parts(*overrides, "seed=1").algorithm
    b.start_from(tensors, "algo.init_from=A")
    batch = rows(b)
    with torch.no_grad():
        assert torch.equal(b.q(batch.obs, batch.action), a.q(batch.obs, batch.action))
    with pytest.raises(UserError, match="holds another policy"):
        parts(*overrides, "network.hidden=[24]").algorithm.start_from(tensors, "algo.init_from=A")


# ---------------------------------------------------------------- learning

GAMMA = 0.8
LEARN = (
    *("algo=sql", "network=mlp", "network.activation=relu", "network.hidden=[32,32]", f"algo.gamma={GAMMA}"),
    *("optimizer.lr=0.01", "optimizer.schedule=linear", "memory.warmup=200", "num_envs=2"),
    *("memory.batch_size=64", "algo.tau=0.1", "algo.particles=8", "total_steps=1000"),
)
PROBE = (*LEARN, "env=gym", "algo.temperature=1e-3")


@pytest.mark.parametrize("continuous", sampled([False, True], [True]))
def test_a_time_limit_is_bootstrapped_from_the_true_successor(continuous):
    overrides = (f"+env.kwargs.continuous={continuous}", "algo.sampler=mcmc", "algo.langevin_steps=1")
    value = Trained(run(*PROBE, "env.id=ProbePhases-v0", *overrides)[0].algorithm).value([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.15)


@pytest.mark.slow
def test_it_finds_the_number_that_pays():
    overrides = ("+env.kwargs.continuous=true", "algo.temperature=0.1", "env.id=ProbeMatch-v0")
    agent = Trained(run(*PROBE, *overrides)[0].algorithm)
    assert agent.action([1.0], [-1.0]) == pytest.approx([0.5, -0.5], abs=0.15)


def test_of_an_action_that_pays_the_policy_is_the_softmax():
    a = run(*PROBE, "algo.temperature=0.5", "env.id=ProbeChoice-v0")[0].algorithm
    q = a.q.all(torch.zeros(1, 1))[0, 0].tolist()
    assert q == pytest.approx([0.0, 1.0], abs=0.05)
    taken = a.act(torch.zeros(20_000, 1), (), True)[0].float().mean()
    assert taken == pytest.approx(1.0 / (1.0 + math.exp(-2.0)), abs=0.02)


@pytest.mark.parametrize(("sampler", "proposal"), [("svgd", "uniform"), ("svgd", "policy"), ("mcmc", "uniform")])
def test_both_modes_of_the_bandit_are_learnt(sampler, proposal):
    overrides = ("env=bimodal_bandit", f"algo.sampler={sampler}", "algo.temperature=0.15", "num_envs=4")
    overrides = (*overrides, f"algo.proposal={proposal}")
    a = run(*LEARN, *overrides, "algo.langevin_steps=3", "algo.step_length=0.1")[0].algorithm
    if sampler == "mcmc":
        a.actor.steps, a.actor.step_length = 200, 0.03
    with torch.no_grad():
        drawn = a.actor.sample(a.q, torch.zeros(1, 1), 1000).flatten()
    assert 0.25 < (drawn > 0.0).float().mean() < 0.75
    near = ((drawn.abs() - 0.5).abs() < 0.3).float().mean()  # as exp(r/α) has it, 0.87; uniform actions, 0.6
    assert near > 0.75
