"""Mirror descent: the gradient at π_k, the KL's gradient, and where the steps lead, against algebra."""

import pytest
import torch
import torch.nn.functional as F
from probes import Trained, run
from running import compose, parts
from torch.testing import assert_close

from pgrun.config.values import validate
from pgrun.data.types import mask_mean
from pgrun.errors import UserError
from pgrun.nn.distributions import Categorical, Gaussian

SMALL = ("algo=mdpo", "num_envs=4", "network.hidden=[8]", "algo.rollout=32", "algo.minibatch=128")
BARE = ("algo.value_coef=0", "algo.normalize_advantage=false", "algo.max_grad_norm=null")
INFINITE = torch.tensor(float("inf"))


def set_eta(a, value):
    a.eta = torch.tensor(value) if torch.is_tensor(a.eta) else value


def rolled(*overrides):
    """An algorithm, and a rollout's rows with Ψ_t and π_k."""
    p = parts(*SMALL, *overrides)
    a = p.algorithm
    (sample,) = a.minibatches(a.estimate(p.collector.collect(a)), 1, 10_000)
    p.collector.env.close()
    return a, sample


def moved(a):
    """Another policy than the one that acted."""
    with torch.no_grad():
        for p in a.model.actor.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))


@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_at_the_policy_that_acted_it_is_the_policy_gradient(env):
    a, sample = rolled(f"env={env}", *BARE, "algo.eta=0.01")
    actor = list(a.model.actor.parameters())
    ours = torch.autograd.grad(a.loss(sample, INFINITE)[0], actor)
    log_prob = a.model.policy(sample).log_prob(sample.action)
    theirs = torch.autograd.grad(-mask_mean(log_prob * sample.extras["psi"], sample.valid), actor)
    assert max(g.abs().max() for g in theirs) > 1e-3
    assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_away_from_it_the_loss_is_the_surrogate_and_the_kl():
    a, sample = rolled("env=cartpole", *BARE)
    moved(a)
    set_eta(a, 0.25)
    old, new = sample.extras["pi"].log_softmax(-1), a.model.policy(sample).logits.log_softmax(-1)
    ratio = ((new - old) * F.one_hot(sample.action, 2)).sum(-1).exp()
    kl = (new.exp() * (new - old)).sum(-1)  # of the new from the old: the other way round it is PPO's
    truth = mask_mean(-ratio * sample.extras["psi"] + kl / 0.25, sample.valid)
    loss, _ = a.loss(sample, INFINITE)
    assert_close(loss, truth)
    actor = list(a.model.actor.parameters())
    assert_close(torch.autograd.grad(loss, actor), torch.autograd.grad(truth, actor), rtol=1e-4, atol=1e-6)
    reverse = (old.exp() * (old - new)).sum(-1)
    assert float(reverse.detach().mean()) != pytest.approx(float(kl.detach().mean()), rel=1e-3)


def penalty_gradient(a, pi, kept, leaves):
    """∇ of the penalty at a policy, with π_k given by its kept parameters."""
    _, sample = rolled("env=cartpole")
    sample = sample._replace(extras={**sample.extras, "pi": kept})
    return torch.autograd.grad(a.penalty(sample, pi, torch.zeros(1), torch.ones(1)).sum(), leaves)


def test_the_gradient_of_a_categoricals_kl():
    """∂KL(π‖π_k)/∂z_i = π_i (log π_i/π_k,i − KL)."""
    a, _ = rolled("env=cartpole")
    set_eta(a, 0.5)
    z, z_k = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 21).view(7, 3)
    z.requires_grad_()
    (ours,) = penalty_gradient(a, Categorical(z), z_k, [z])
    gap = (z.log_softmax(-1) - z_k.log_softmax(-1)).detach()
    p = z.detach().softmax(-1)
    assert_close(ours, p * (gap - (p * gap).sum(-1, keepdim=True)) / 0.5)


def test_the_gradient_of_a_gaussians_kl():
    """∂KL/∂μ = (μ − μ_k)/σ_k², ∂KL/∂log σ = σ²/σ_k² − 1."""
    a, _ = rolled("env=cartpole")
    set_eta(a, 0.5)
    g = torch.Generator().manual_seed(0)
    mean, log_std, mean_k, log_std_k = (0.5 * torch.randn(7, 2, generator=g) for _ in range(4))
    mean.requires_grad_(), log_std.requires_grad_()
    kept = torch.cat([mean_k, log_std_k], -1)
    ours = penalty_gradient(a, Gaussian(mean, log_std), kept, [mean, log_std])
    assert_close(ours[0], (mean - mean_k).detach() / (2 * log_std_k).exp() / 0.5)
    assert_close(ours[1], ((2 * (log_std - log_std_k)).exp() - 1.0).detach() / 0.5)


def test_the_steps_lead_to_the_mirror_descent_update():
    """Where a policy is free in each state, the optimum is π ∝ π_k exp(η A)."""
    a, sample = rolled("env=cartpole", *BARE)
    n, eta = 40, 0.7
    index = torch.arange(n)
    action = (index % 4 == 0).long()  # π_k = (3/4, 1/4), and the batch holds its actions in these shares
    old = torch.tensor([0.75, 0.25]).log().expand(n, 2)
    advantage = torch.tensor([0.4, -0.8])[action]
    first = torch.zeros(n, dtype=torch.long)
    batch = sample._replace(
        obs=sample.obs[first],
        action=action,
        valid=torch.ones(n, dtype=torch.bool),
        extras={
            "pi": old,
            "log_prob": old.gather(-1, action.unsqueeze(-1)).squeeze(-1),
            "psi": advantage,
            "target": torch.zeros(n),
        },
    )
    set_eta(a, eta)
    optimizer = torch.optim.Adam(a.model.actor.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        a.loss(batch, INFINITE)[0].backward()
        optimizer.step()
    log_p = a.model.policy(batch).logits[0].log_softmax(-1)
    optimum = (old[0] + eta * torch.tensor([0.4, -0.8])).log_softmax(-1)
    assert_close(log_p, optimum, atol=1e-3, rtol=0.0)


def test_eta_is_annealed_and_the_policy_held_with_it():
    def change(progress):
        torch.manual_seed(0)
        p = parts(*SMALL, "env=cartpole", "algo.eta=2", "optimizer.lr=0.01")
        a = p.algorithm
        batch = p.collector.collect(a)
        a.set_progress(progress)
        metrics = a.update(batch)
        assert float(metrics["policy/eta"]) == pytest.approx(2.0 * (1.0 - progress))
        return float(metrics["policy/kl"])

    free, held = change(0.0), change(0.999)
    assert 0.0 < held < 0.1 * free


def test_it_may_be_clipped_too():
    a, sample = rolled("env=cartpole", *BARE)
    moved(a)
    epsilon = torch.tensor(0.01)
    log_ratio = a.model.policy(sample).log_prob(sample.action) - sample.extras["log_prob"]
    ratio, psi = log_ratio.exp(), sample.extras["psi"]
    clipped = -mask_mean(torch.minimum(ratio * psi, ratio.clamp(0.99, 1.01) * psi), sample.valid)
    kl = (a.loss(sample, INFINITE)[0] + mask_mean(ratio * psi, sample.valid)).detach()
    assert_close(a.loss(sample, epsilon)[0], clipped + kl, rtol=1e-4, atol=1e-5)
    assert parts(*SMALL, "env=cartpole", "algo.clip_range=0.2").algorithm.clip_range(0.0) == 0.2
    assert a.clip_range(0.0) == float("inf")


@pytest.mark.parametrize("override", ["algo.eta=0", "algo.eta=-1", "algo.eta_schedule=exponential"])
@pytest.mark.parametrize("algo", ["mdpo", "mdpo_offpolicy"])
def test_values_out_of_range_are_refused(algo, override):
    with pytest.raises(UserError, match=override.split("=")[0]):
        validate(compose(f"algo={algo}", "env=pendulum", override))


# ---------------------------------------------------------------- probes

GAMMA = 0.8
LEARN = (
    *("algo=mdpo", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}", "num_envs=8", "algo.rollout=32"),
    *("algo.minibatch=128", "optimizer.lr=0.01", "optimizer.schedule=linear", "total_steps=4000"),
)


def trained(probe, *overrides):
    return Trained(run(*LEARN, f"env.id=Probe{probe}-v0", *overrides)[0].algorithm)


def test_it_learns_the_values():
    assert trained("Two").value([0.0], [1.0]) == pytest.approx([GAMMA, 1.0], abs=0.06)


def test_a_time_limit_is_bootstrapped_from_the_true_successor():
    value = trained("Phases").value([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.15)


@pytest.mark.slow
def test_it_takes_the_action_that_pays():
    assert trained("Match").action([1.0], [-1.0]) == [1, 0]


@pytest.mark.slow
def test_it_finds_the_number_that_pays():
    calm = ("+env.kwargs.continuous=true", "optimizer.lr=0.003", "network.log_std_init=-1")
    assert trained("Match", *calm).action([1.0], [-1.0]) == pytest.approx([0.5, -0.5], abs=0.1)
