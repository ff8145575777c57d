"""The adaptive KL penalty: what the loss is, and how β moves."""

import pytest
import torch
from running import parts
from torch.testing import assert_close

SMALL = ("algo=ppo_kl", "env=cartpole", "num_envs=4", "network.hidden=[8]", "algo.rollout=32", "algo.minibatch=128")
PLAIN = ("algo.value_coef=0", "algo.entropy_coef=0", "algo.max_grad_norm=null", "algo.normalize_advantage=false")


@pytest.mark.parametrize(
    ("ratio", "factor"), [(0.4, 0.5), (0.66, 0.5), (0.67, 1.0), (1.49, 1.0), (1.51, 2.0), (4.0, 2.0)]
)
def test_beta_moves_as_specified(ratio, factor):
    """d/d_targ below 2/3 halves β, above 3/2 doubles it."""
    p = parts(*SMALL, "algo.kl_coef=3.0")
    a = p.algorithm
    batch = a.estimate(p.collector.collect(a))
    with torch.no_grad():  # another policy, so that KL(π_old‖π) is something
        a.model.actor.head.layer.bias.add_(torch.tensor([0.3, -0.2]))
        d = float(a.model.policy(batch).like(batch.extras["pi"]).kl(a.model.policy(batch)).mean())
    assert d > 0.01
    a.kl_target = d / ratio
    metrics = a.after_epochs(batch)
    assert metrics["policy/kl"] == pytest.approx(d, rel=1e-5)
    assert float(a.beta) == float(metrics["policy/beta"]) == 3.0 * factor


def test_the_gradient_is_that_of_the_penalised_surrogate():
    p = parts(*SMALL, *PLAIN, "algo.kl_coef=3.0")
    a = p.algorithm
    batch = a.estimate(p.collector.collect(a))
    with torch.no_grad():
        a.model.actor.head.layer.bias.add_(torch.tensor([0.3, -0.2]))
    (sample,) = a.minibatches(batch, 1, 10_000)
    loss, _ = a.loss(sample, torch.tensor(float("inf")))
    actor = list(a.model.actor.parameters())
    ours = torch.autograd.grad(loss, actor)

    old, new = sample.extras["pi"].log_softmax(-1), a.model.policy(sample).logits.log_softmax(-1)
    taken = torch.nn.functional.one_hot(sample.action, 2)
    ratio = ((new - old) * taken).sum(-1).exp()
    kl = (old.exp() * (old - new)).sum(-1)
    weight = sample.valid.float()
    truth = ((-ratio * sample.extras["psi"] + 3.0 * kl) * weight).sum() / weight.sum()
    assert_close(loss, truth)
    assert_close(ours, torch.autograd.grad(truth, actor), rtol=1e-4, atol=1e-6)


def test_beta_is_saved():
    p, q = parts(*SMALL), parts(*SMALL)
    p.algorithm.beta.fill_(7.0)
    q.algorithm.restore(p.algorithm.snapshot())
    assert float(q.algorithm.beta) == 7.0


@pytest.mark.slow
def test_compiled_steps_see_beta_move():
    sgd = ("optimizer=sgd", "optimizer.lr=1")
    p = parts(*SMALL, *PLAIN, *sgd, "compile=true", "algo.epochs=1")
    q = parts(*SMALL, *PLAIN, *sgd, "algo.epochs=1")
    q.algorithm.load_state_dict(p.algorithm.state_dict())
    rollout = p.collector.collect(p.algorithm)
    for beta in (0.5, 50.0):
        for a in (p.algorithm, q.algorithm):
            a.beta.fill_(beta)
        batch = q.algorithm.estimate(rollout)
        with torch.no_grad():
            batch.extras["pi"] += torch.tensor([0.3, 0.0])  # as if π_old had been another
        (sample,) = q.algorithm.minibatches(batch, 1, 10_000)
        for a in (p.algorithm, q.algorithm):
            a.step(sample, torch.tensor(float("inf")))
        assert_close(p.algorithm.step.theta, q.algorithm.step.theta, rtol=1e-3, atol=1e-5)
        q.algorithm.load_state_dict(p.algorithm.state_dict())
