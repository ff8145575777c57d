"""A reference policy: each form's mean gradient, over all actions, against the analytic one."""

import shutil

import pytest
import torch
from running import new_run, parts
from torch.testing import assert_close

from pgrun.core.losses import kl_estimate
from pgrun.errors import UserError
from pgrun.nn.normalize import RewardScale
from pgrun.run import checkpoint
from pgrun.run.build import build

S, A = 4, 3
SMALL = ("env=cartpole", "num_envs=2", "network.hidden=[8]", "eval.every=null", "eval.final_episodes=1")


def tables(seed):
    """Logits of π, π_ref and a π_old, [S, A] each; π's with a gradient."""
    g = torch.Generator().manual_seed(seed)
    pi, ref, old = (torch.randn(S, A, generator=g, dtype=torch.float64) for _ in range(3))
    return pi.requires_grad_(), ref, old


def kl(p, q):
    """Σ_s KL(p‖q) from log-probabilities [S, A]."""
    return (p.exp() * (p - q)).sum()


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_in_the_mean_it_is_the_kl(kind):
    pi, ref, _ = (t.log_softmax(-1) for t in tables(0))
    assert_close((pi.exp() * kl_estimate(ref - pi, kind)).sum(), kl(pi, ref))


def test_k3_is_never_negative():
    log_r = torch.linspace(-20.0, 5.0, 1001, dtype=torch.float64)
    assert (kl_estimate(log_r, "k3") >= 0).all()
    assert (kl_estimate(log_r, "k1") < 0).any()


@pytest.mark.parametrize("kind", ["k1", "k3"])
@pytest.mark.parametrize("on_policy", [True, False])
def test_weighted_by_the_ratio_the_gradient_is_the_kls(kind, on_policy):
    logits, ref, old = tables(1)
    pi, ref = logits.log_softmax(-1), ref.log_softmax(-1)
    old = pi.detach() if on_policy else old.log_softmax(-1)
    loss = (old.exp() * (pi - old).exp() * kl_estimate(ref - pi, kind)).sum()  # the sum over actions of π_old
    (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (truth,) = torch.autograd.grad(kl(pi, ref), logits)
    assert truth.abs().max() > 0.1
    assert_close(ours, truth)


def test_differentiated_naively_k1_does_nothing_and_k3_is_the_reverse_kl():
    logits, ref, _ = tables(2)
    pi, ref = logits.log_softmax(-1), ref.log_softmax(-1)
    for kind, truth in (("k1", torch.zeros(S, A, dtype=torch.float64)), ("k3", None)):
        loss = (pi.detach().exp() * kl_estimate(ref - pi, kind)).sum()
        (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
        if truth is None:
            (truth,) = torch.autograd.grad(kl(ref, pi), logits, retain_graph=True)
            assert truth.abs().max() > 0.1
        assert_close(ours, truth)


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_in_the_reward_the_score_carries_it(kind):
    logits, ref, _ = tables(3)
    pi, ref = logits.log_softmax(-1), ref.log_softmax(-1)
    loss = (pi.detach().exp() * pi * kl_estimate(ref - pi, kind).detach()).sum()  # Σ π ∇log π · k
    (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (forward,) = torch.autograd.grad(kl(pi, ref), logits, retain_graph=True)
    (reverse,) = torch.autograd.grad(kl(ref, pi), logits)
    assert_close(ours, forward if kind == "k1" else forward - reverse)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    new_run(folder, "algo=ppo", *SMALL, "algo.rollout=16", "total_steps=64", "optimizer.lr=0.05").execute()
    return folder


@pytest.mark.parametrize("algo", ["ppo", "ppo_kl"])
@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_the_algorithms_loss_has_that_gradient(algo, kind, finished):
    """With Ψ = 0 nothing else is in the gradient: on every state, each action weighed by π_old."""
    p = parts(f"algo={algo}", *SMALL, f"algo.reference={finished}", f"algo.kl_estimator={kind}", "algo.rollout=16")
    a = p.algorithm
    batch = a.estimate(a.reference.see(p.collector.collect(a), a.model))
    grads = []
    for action in range(2):
        taken = batch._replace(action=torch.full_like(batch.action, action))
        with torch.no_grad():
            log_prob = a.model.policy(taken).log_prob(taken.action)
            weight = log_prob.exp()
        seen = a.reference.see(taken._replace(extras={**taken.extras, "log_prob": log_prob}), a.model)
        pi = a.model.policy(seen)
        now = pi.log_prob(seen.action)
        grads.append((weight * a.penalty(seen, pi, now, (now - log_prob).exp())).sum())
    actor = list(a.model.actor.parameters())
    ours = torch.autograd.grad(sum(grads), actor)
    pi, ref = a.model.policy(batch), a.reference.actor(batch.obs)
    truth = torch.autograd.grad(0.1 * pi.kl(ref).sum(), actor)
    assert max(float(g.abs().max()) for g in truth) > 1e-3
    assert_close(ours, truth, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_it_stays_nearer(finished):
    def distance(coef):
        reference = (f"algo.reference={finished}", f"algo.reference_coef={coef}", "algo.clip_range=null")
        p = parts("algo=ppo", *SMALL, *reference, "algo.rollout=64", "optimizer.lr=0.01")
        a = p.algorithm
        for _ in range(10):
            rollout = p.collector.collect(a)
            a.update(rollout)
        with torch.no_grad():
            return float(a.model.policy(rollout).kl(a.reference.actor(rollout.obs)).mean())

    assert distance(10.0) < 0.5 * distance(0.0)


def test_the_reward_pays_for_the_distance(finished):
    p = parts("algo=ppo", *SMALL, f"algo.reference={finished}", "algo.kl_in=reward", "algo.kl_estimator=k1")
    rollout, a = p.collector.collect(p.algorithm), p.algorithm
    seen = a.reference.see(rollout, a.model)
    with torch.no_grad():
        log_pi, log_ref = (
            m.log_prob(rollout.action) for m in (a.model.policy(rollout), a.reference.actor(rollout.obs))
        )
    assert_close(seen.reward, rollout.reward - 0.1 * (log_pi - log_ref))


@pytest.mark.parametrize("algo", ["ppo", "mdpo"])
@pytest.mark.parametrize("spread", [0.1, 1.0, 100.0])
def test_the_rewards_scale_is_not_the_penaltys(algo, spread, finished):
    """Ψ falls by reference_coef for each nat, whatever rewards are divided by, and the scale sees what was paid."""
    p = parts(f"algo={algo}", *SMALL, f"algo.reference={finished}", "algo.reference_coef=0.5", "algo.kl_in=reward",
              "algo.normalize_reward=true", "algo/advantage=td", "algo.rollout=16")  # fmt: skip
    a, batch = p.algorithm, p.collector.collect(p.algorithm)
    before = spread * torch.randn(500, 2), torch.zeros(500, 2).bool(), torch.ones(500, 2).bool()
    plain = RewardScale(a.gamma)
    for scale in (plain, a.reward_scale):
        scale.observe(*before)
    plain.carry.zero_()
    a.reward_scale.carry.zero_()
    seen = a.seen(batch)
    kl = seen.extras["penalty"] / 0.5
    assert float(kl.abs().max()) > 1e-3
    psi = a.estimate(seen).extras["psi"]
    plain.observe(batch.reward, batch.last, batch.valid)  # what was paid, and that alone
    with torch.no_grad():
        without, _ = a.advantages_and_targets(batch._replace(reward=plain(batch.reward)), a.model.value(batch))
    assert_close(psi, without - 0.5 * kl)


def test_a_run_begins_from_another(finished):
    began = parts("algo=a2c", *SMALL, f"algo.init_from={finished}").algorithm
    trained = torch.load(finished / "checkpoints" / "latest.pt", weights_only=True)["algorithm"]["module"]
    for key, value in began.model.state_dict().items():
        assert torch.equal(value, trained[f"model.{key}"])  # the critic has the same shape, and comes too
    assert began.step.optimizer.state["v"].eq(0).all()  # RMSprop's own start, not the other's moments
    alone = parts("algo=reinforce", *SMALL, f"algo.init_from={finished}").algorithm  # it has no critic
    assert all(torch.equal(v, trained[f"model.{k}"]) for k, v in alone.model.state_dict().items())


def test_a_resumed_run_does_not_need_the_other(finished, tmp_path):
    other = shutil.copytree(finished, tmp_path / "other", symlinks=True)
    run = new_run(tmp_path / "run", "algo=ppo", *SMALL, f"algo.reference={other}", "algo.rollout=16", "total_steps=64")
    run.execute()
    shutil.rmtree(other)
    again = build(run.config, fresh=False).algorithm
    again.restore(checkpoint.load(checkpoint.latest(tmp_path / "run" / "checkpoints"))["algorithm"])
    for one, two in zip(run.parts.algorithm.reference.parameters(), again.reference.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("key", ["reference", "init_from"])
def test_refusals(key, finished, tmp_path):
    with pytest.raises(UserError, match=r"nowhere is no run with a checkpoint"):
        parts("algo=ppo", *SMALL, f"algo.{key}={tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match=rf"algo.{key}=.* holds another policy than this"):
        parts("algo=ppo", *SMALL, "network.hidden=[9]", f"algo.{key}={finished}")


def test_no_reference_for_a_memory(finished):
    with pytest.raises(UserError, match=r"algo.reference can't be followed by a network with a memory"):
        parts("algo=ppo", "env=cartpole", "network=lstm", f"algo.reference={finished}")
