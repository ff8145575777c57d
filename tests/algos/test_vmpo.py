"""V-MPO: each part of its loss by hand, what the multipliers do, and that it learns."""

import math

import pytest
import torch
from probes import Trained, run
from running import compose, parts
from torch.testing import assert_close

from pgrun.config.values import validate
from pgrun.core.normalization import normalize
from pgrun.errors import UserError

SMALL = ("algo=vmpo", "num_envs=4", "network.hidden=[8]", "algo.rollout=32", "algo.minibatch=128")


def rolled(*overrides):
    """An algorithm whose policy has left the one that acted, a rollout's rows, and which of them count."""
    torch.manual_seed(0)
    p = parts(*SMALL, *overrides)
    a = p.algorithm
    (sample,) = a.minibatches(a.estimate(p.collector.collect(a)), 1, 10_000)
    p.collector.env.close()
    with torch.no_grad():
        for x in a.model.actor.parameters():
            x.add_(0.1 * torch.randn_like(x))
    counts = sample.valid.nonzero().squeeze(-1).tolist()
    return a, sample, counts


def gradient(loss, parameters):
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)


@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_the_policys_loss_is_the_weighted_likelihood_of_the_better_half(env):
    """Eq. 3, of rows that are sorted and weighed one by one; with α = 0 nothing else moves the policy."""
    a, sample, counts = rolled(f"env={env}", "algo.init_alpha=1e-30")
    with torch.no_grad():
        a.log_eta.fill_(math.log(0.7))
    advantage = normalize(sample.extras["psi"], sample.valid).tolist()
    best = sorted(counts, key=lambda i: -advantage[i])[: (len(counts) + 1) // 2]
    z = sum(math.exp(advantage[i] / 0.7) for i in best)
    log_prob = a.model.policy(sample).log_prob(sample.action)
    want = -sum(math.exp(advantage[i] / 0.7) / z * log_prob[i] for i in best)
    loss, metrics = a.loss(sample)
    assert_close(metrics["loss/policy"], want.detach())
    actor = list(a.model.actor.parameters())
    assert max(float(g.abs().max()) for g in gradient(want, actor)) > 1e-3
    assert_close(gradient(loss, actor), gradient(want, actor), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("eta", [0.2, 1.0, 5.0])
def test_the_temperatures_gradient_is_that_of_its_dual(eta):
    """Eq. 4: L_η = η ε_η + η log (1/|D̃|) Σ exp(A/η)."""
    a, sample, counts = rolled("env=cartpole", "algo.epsilon_eta=0.3")
    with torch.no_grad():
        a.log_eta.fill_(math.log(eta))
    best = normalize(sample.extras["psi"], sample.valid)[counts].sort(descending=True).values[: (len(counts) + 1) // 2]
    temperature = torch.tensor(eta, requires_grad=True)
    dual = temperature * 0.3 + temperature * (best / temperature).exp().mean().log()
    (want,) = torch.autograd.grad(dual, temperature)
    (ours,) = gradient(a.loss(sample)[0], [a.log_eta])
    assert_close(ours, eta * want, rtol=1e-4, atol=1e-5)  # of log η


def test_the_divergence_of_choices():
    a, sample, counts = rolled("env=cartpole")
    pi = a.model.policy(sample)
    old, new = sample.extras["pi"].log_softmax(-1), pi.logits.log_softmax(-1)
    assert_close(
        a.divergence(pi, sample), (old.exp() * (old - new)).sum(-1)[counts].mean().unsqueeze(0), rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("network", [(), ("network.std=state",), ("network.std=state", "network.squash=true")])
def test_the_divergences_of_gaussians(network):
    """Eq. 25 to 27: ½ (μ − μ_old)ᵀ Σ_old⁻¹ (μ − μ_old), and ½ (tr Σ⁻¹Σ_old − n + log |Σ|/|Σ_old|).

    Of squashed ones, they are those of the Gaussians under the squash.
    """
    a, sample, counts = rolled("env=sparse_reach", *network)  # two numbers
    pi = a.model.policy(sample)
    log_std = pi.log_std.expand_as(pi.mean)
    mean_old, log_std_old = sample.extras["pi"].chunk(2, -1)
    of_mean, of_covariance = [], []
    for i in counts:
        sigma_old, sigma = torch.diag((2 * log_std_old[i]).exp()), torch.diag((2 * log_std[i]).exp())
        shift = pi.mean[i] - mean_old[i]
        of_mean.append(0.5 * shift @ sigma_old.inverse() @ shift)
        logs = sigma.det().log() - sigma_old.det().log()
        of_covariance.append(0.5 * ((sigma.inverse() @ sigma_old).trace() - 2 + logs))
    want = torch.stack([torch.stack(of_mean).mean(), torch.stack(of_covariance).mean()])
    assert want.min() > 1e-3
    assert_close(a.divergence(pi, sample), want, rtol=1e-4, atol=1e-6)


def test_a_multiplier_holds_what_it_is_of_and_is_held_by_it():
    """Eq. 5: θ has α ∇KL, mean and covariance with an α each; log α has α (ε − KL)."""
    a, sample, _ = rolled("env=pendulum", "algo.epsilon_alpha=0.02", "algo.epsilon_covariance=0.003")
    with torch.no_grad():
        a.log_alpha.copy_(torch.tensor([2.0, 3.0]).log())
    actor = list(a.model.actor.parameters())
    kl = a.divergence(a.model.policy(sample), sample)
    held = gradient(a.loss(sample)[0], actor)
    want = gradient(2.0 * kl[0] + 3.0 * kl[1], actor)
    with torch.no_grad():
        a.log_alpha.fill_(-70.0)
    free = gradient(a.loss(sample)[0], actor)
    assert_close([x - y for x, y in zip(held, free, strict=True)], list(want), rtol=1e-3, atol=1e-5)
    log_std = next(i for i, x in enumerate(actor) if x is a.model.actor.head.log_std)
    moved = [[bool(g is not None and g.any()) for g in gradient(part, actor)] for part in kl]
    assert moved[0] == [i != log_std for i in range(len(actor))]
    assert moved[1] == [i == log_std for i in range(len(actor))]

    with torch.no_grad():
        a.log_alpha.copy_(torch.tensor([2.0, 3.0]).log())
    (ours,) = gradient(a.loss(sample)[0], [a.log_alpha])
    assert_close(ours, torch.tensor([2.0, 3.0]) * (torch.tensor([0.02, 0.003]) - kl.detach()))


def test_the_value_is_fitted_and_nothing_else_moves_it():
    """Eq. 6: ½ E[(V − target)²]."""
    a, sample, counts = rolled("env=cartpole")
    critic = list(a.model.critic.parameters())
    want = 0.5 * (a.model.value(sample) - sample.extras["target"])[counts].square().mean()
    assert_close(gradient(a.loss(sample)[0], critic), gradient(want, critic))


def test_multipliers_rise_where_a_constraint_is_broken_and_fall_where_it_is_kept():
    signs = {}
    for epsilon in (1e-6, 10.0):
        bounds = (f"algo.epsilon_{x}={epsilon}" for x in ("eta", "alpha", "covariance"))
        a, sample, _ = rolled("env=pendulum", *bounds)
        before = torch.stack([a.log_eta, *a.log_alpha]).detach()
        a.step(sample)
        signs[epsilon] = (torch.stack([a.log_eta, *a.log_alpha]).detach() - before).sign().tolist()
    assert signs == {1e-6: [1.0] * 3, 10.0: [-1.0] * 3}


def test_multipliers_are_saved():
    a, b = (parts(*SMALL, "env=pendulum").algorithm for _ in range(2))
    with torch.no_grad():
        a.log_eta.fill_(1.5), a.log_alpha.fill_(2.5)
    b.restore(a.snapshot())
    assert (b.log_eta.item(), b.log_alpha.tolist()) == (1.5, [2.5, 2.5])


def test_a_seed_decides_every_bit():
    def end(seed):
        return run(*SMALL, "env=pendulum", "total_steps=512", f"seed={seed}")[0].algorithm.step.theta

    first = end(3)
    assert torch.equal(first, end(3))
    assert not torch.equal(first, end(4))


@pytest.mark.slow
def test_compiled_updates_are_the_eager_ones():
    p, q = (parts(*SMALL, "env=pendulum", "optimizer.lr=0.01", f"compile={x}") for x in ("true", "false"))
    q.algorithm.load_state_dict(p.algorithm.state_dict())
    rollout = q.collector.collect(q.algorithm)
    for a in (p.algorithm, q.algorithm):
        torch.manual_seed(1)
        a.update(rollout)
    assert_close(p.algorithm.step.theta, q.algorithm.step.theta, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("key", ["epsilon_eta", "epsilon_alpha", "epsilon_covariance", "init_alpha"])
def test_values_out_of_range_are_refused(key):
    with pytest.raises(UserError, match=f"algo.{key}=0 is out of range"):
        validate(compose("algo=vmpo", f"algo.{key}=0"))


# ---------------------------------------------------------------- probes

GAMMA = 0.8
LEARN = (
    *("algo=vmpo", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}", "num_envs=8", "algo.rollout=32"),
    *("algo.minibatch=128", "optimizer.lr=0.01", "optimizer.schedule=linear", "total_steps=4000"),
)


def trained(probe, *overrides):
    return Trained(run(*LEARN, f"env.id=Probe{probe}-v0", *overrides)[0].algorithm)


@pytest.mark.slow
def test_it_learns_the_values():
    assert trained("Two").value([0.0], [1.0]) == pytest.approx([GAMMA, 1.0], abs=0.06)


def test_a_time_limit_is_bootstrapped_from_the_true_successor():
    value = trained("Phases").value([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.15)


def test_it_takes_the_action_that_pays():
    assert trained("Match").action([1.0], [-1.0]) == [1, 0]


@pytest.mark.slow
def test_it_finds_the_number_that_pays():
    calm = ("+env.kwargs.continuous=true", "optimizer.lr=0.003", "network.log_std_init=-1")
    assert trained("Match", *calm).action([1.0], [-1.0]) == pytest.approx([0.5, -0.5], abs=0.1)
