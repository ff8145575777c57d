"""Distributed PPO, what one worker does: the penalised objective, the substeps, and how λ moves."""

import pytest
import torch
from running import parts
from torch.testing import assert_close

from pgrun.errors import UserError

SMALL = (
    "algo=dppo",
    "parallel=none",
    "workers=1",
    "env=cartpole",
    "num_envs=4",
    "network.hidden=[8]",
    "algo.rollout=32",
)
PLAIN = ("algo.max_grad_norm=null", "algo.normalize=none", "algo.policy_substeps=3", "algo.critic_fit.epochs=2",
         "algo.critic_fit.minibatch=10000")  # fmt: skip


def moved(*overrides):
    """An algorithm whose policy is no longer the one that its rollout is of."""
    p = parts(*SMALL, *PLAIN, *overrides)
    a = p.algorithm
    batch = a.estimate(p.collector.collect(a))
    with torch.no_grad():
        a.model.actor.head.layer.bias.add_(torch.tensor([0.3, -0.2]))
    (sample,) = a.minibatches(batch, 1, 10_000)
    return a, batch, sample


def by_hand(a, sample):
    """ρ_t of the valid rows, the means of KL[π_old|π_θ] and entropy over them, and their Â_t; from the logits."""
    old, new = sample.extras["pi"].log_softmax(-1)[sample.valid], a.model.policy(sample).logits.log_softmax(-1)
    new, taken = new[sample.valid], torch.nn.functional.one_hot(sample.action, 2)[sample.valid]
    kl = (old.exp() * (old - new)).sum(-1).mean()
    rho = ((new - old) * taken).sum(-1).exp()
    return rho, kl, -(new.exp() * new).sum(-1).mean(), sample.extras["psi"][sample.valid]


@pytest.mark.parametrize("ratio", [0.5, 1.9, 2.5, 8.0])
def test_the_objective_is_the_papers(ratio):
    """J = mean ρÂ − λ KL − ξ max(0, KL − 2 KL_target)², at KLs below and above 2 KL_target."""
    a, _, sample = moved("algo.kl_coef=3.0", "algo.kl_excess=700.0", "algo.entropy_coef=0.25")
    rho, kl, entropy, psi = by_hand(a, sample)
    a.kl_target = float(kl.detach()) / ratio
    loss, metrics = a.policy_loss(sample, a.lambda_)
    j = (rho * psi).mean() - 3.0 * kl
    if ratio > 2:
        j = j - 700.0 * (kl - 2.0 * a.kl_target) ** 2
    assert_close(loss, -j - 0.25 * entropy)
    assert_close(metrics["loss/policy"], -j.detach())
    actor = list(a.model.actor.parameters())
    ours, truth = torch.autograd.grad(loss, actor), torch.autograd.grad(-j - 0.25 * entropy, actor)
    assert_close(ours, truth, rtol=1e-4, atol=1e-6)


def test_the_clipped_form_takes_the_penaltys_place():
    a, _, sample = moved("algo.clip_range=0.1", "algo.kl_coef=3.0")
    rho, _, _, psi = by_hand(a, sample)
    truth = torch.minimum(rho * psi, rho.clamp(0.9, 1.1) * psi).mean()
    assert bool(((rho - 1.0).abs() > 0.1).any())
    loss, _ = a.policy_loss(sample, a.lambda_)
    assert_close(loss, -truth)
    actor = list(a.model.actor.parameters())
    assert_close(torch.autograd.grad(loss, actor), torch.autograd.grad(-truth, actor), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "factor"), [(0.1, 1 / 1.5), (0.49, 1 / 1.5), (0.51, 1.0), (1.99, 1.0), (2.01, 1.5), (3.9, 1.5)]
)
def test_lambda_moves_as_specified(ratio, factor):
    """Below β_low KL_target it falls, above β_high KL_target it grows."""
    a, batch, sample = moved("algo.kl_coef=3.0")
    a.kl_target = by_hand(a, sample)[1].item() / ratio
    a.policy_step = lambda *_: {}  # the policy stays where it is
    a.policy_substeps = 1
    metrics = a.learn(batch)
    assert float(a.lambda_) == pytest.approx(3.0 * factor)
    assert float(metrics["policy/lambda"]) == pytest.approx(3.0 * factor)
    assert float(metrics["policy/kl"]) == pytest.approx(a.kl_target * ratio, rel=1e-5)


def test_a_rollout_of_another_policy_is_left():
    """KL > 4 KL_target: no further substep, of the policy or of the critic, and λ stays."""
    a, batch, sample = moved("algo.kl_coef=3.0")
    a.kl_target = by_hand(a, sample)[1].item() / 4.1
    before = {name: step.theta.clone() for name, step in a.steps().items()}
    metrics = a.learn(batch)
    assert set(metrics) == {"policy/kl"}
    assert all(torch.equal(step.theta, before[name]) for name, step in a.steps().items())
    assert float(a.lambda_) == 3.0


def test_m_policy_and_b_baseline_substeps():
    p = parts(*SMALL, *PLAIN)
    a = p.algorithm
    counts = {}
    for name, step in a.steps().items():
        descend = step.descend
        step.descend = lambda *args, n=name, d=descend: (counts.update({n: counts.get(n, 0) + 1}), d(*args))[1]
    a.update(p.collector.collect(a))
    assert counts == {"policy_step": 3, "value_step": 2}
    a.minibatch = 32  # of 128 rows
    a.update(p.collector.collect(a))
    assert counts == {"policy_step": 3 + 12, "value_step": 4}


def test_what_does_not_go_together_is_refused():
    with pytest.raises(UserError, match="per_parameter"):
        parts(
            *SMALL,
            "collector=episodes",
            "algo/advantage=reward_to_go",
            "algo/baseline=optimal",
            "algo.baseline.per_parameter=true",
        )
    with pytest.raises(UserError, match=r"network\.shared=false"):
        parts(*SMALL, "network.shared=true")


def test_lambda_is_saved():
    p, q = parts(*SMALL), parts(*SMALL)
    p.algorithm.lambda_.fill_(7.0)
    q.algorithm.restore(p.algorithm.snapshot())
    assert float(q.algorithm.lambda_) == 7.0
