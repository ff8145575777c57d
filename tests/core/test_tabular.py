"""The exact answers themselves, each computed a second way."""

import pytest
import torch
from torch.testing import assert_close

from pgrun.core import tabular
from pgrun.core.tabular import bridge, enumerate_trajectories, log_probs, probabilities, random_mdp, scores

TIGHT = {"rtol": 0.0, "atol": 1e-12}


def logits_of(mdp, seed=0):
    g = torch.Generator().manual_seed(seed)
    shape = (int(mdp.sees.max()) + 1, mdp.reward.shape[1])
    return torch.randn(shape, generator=g, dtype=torch.float64)


@pytest.fixture
def small():
    mdp = random_mdp(3, 2, 0.8, torch.Generator().manual_seed(1), ends=0.2).limited(3)
    return mdp, logits_of(mdp)


def test_the_value_is_the_mean_return_of_all_trajectories(small):
    mdp, logits = small
    pi, every = mdp.policy(logits), enumerate_trajectories(mdp)
    p = probabilities(every, pi)
    time = mdp.gamma ** torch.arange(3, dtype=torch.float64).unsqueeze(1)
    assert_close(p.sum(), torch.tensor(1.0, dtype=torch.float64), **TIGHT)
    assert_close(p @ (time * every.reward).sum(0), mdp.objective(pi), **TIGHT)
    assert len(
        {
            tuple(row)
            for row in torch.cat([every.state, every.action, every.next_state, every.discount.long()]).T.tolist()
        }
    ) == len(p)  # none twice


def test_the_value_solves_bellmans_equation_by_iteration():
    mdp = random_mdp(5, 3, 0.7, torch.Generator().manual_seed(2))
    pi = mdp.policy(logits_of(mdp))
    v = torch.zeros(5, dtype=torch.float64)
    soft = torch.zeros(5, dtype=torch.float64)
    visits, now = torch.zeros(5, dtype=torch.float64), mdp.start
    for t in range(120):
        v = (pi * mdp.q(v)).sum(-1)
        soft = (pi * (mdp.q(soft) - 0.3 * pi.log())).sum(-1)
        visits += 0.7**t * now
        now = torch.einsum("s,sa,sat->t", now, pi, mdp.transition)
    assert_close(mdp.value(pi), v, **TIGHT)
    assert_close(mdp.value(pi, temperature=0.3), soft, **TIGHT)
    assert_close(mdp.visits(pi), visits, **TIGHT)
    assert_close((pi * mdp.advantage(pi)).sum(-1), torch.zeros(5, dtype=torch.float64), **TIGHT)


def test_the_gradient_by_finite_differences(small):
    mdp, logits = small
    eps, found = 1e-5, []
    for i in range(logits.numel()):
        step = torch.zeros_like(logits).flatten().index_fill(0, torch.tensor(i), eps).view_as(logits)
        up, down = (mdp.objective(mdp.policy(x)) for x in (logits + step, logits - step))
        found.append((up - down) / (2.0 * eps))
    assert_close(mdp.gradient(logits), torch.stack(found), rtol=0.0, atol=1e-8)


def test_the_gradient_is_the_policy_gradient_theorems(small):
    """Σ_s ρ(s) Σ_a ∇π(a|s) Q(s, a)."""
    mdp, logits = small
    logits = logits.requires_grad_()
    pi = mdp.policy(logits)
    fixed = pi.detach()
    total = (mdp.visits(fixed).unsqueeze(-1) * pi * mdp.q(mdp.value(fixed))).sum()
    (gradient,) = torch.autograd.grad(total, logits)
    assert_close(mdp.gradient(logits), gradient.flatten(), **TIGHT)


def test_scores_by_automatic_differentiation(small):
    mdp, logits = small
    every = enumerate_trajectories(mdp)

    def log_prob(table):
        return log_probs(every, mdp.policy(table))

    jacobian = torch.autograd.functional.jacobian(log_prob, logits)  # [T, N, O, A]
    assert_close(scores(every, logits), jacobian.flatten(-2), **TIGHT)
    assert (~every.valid).any()


def test_sampled_trajectories_come_as_often_as_they_should(small):
    mdp, logits = small
    pi = mdp.policy(logits)
    g = torch.Generator().manual_seed(3)
    drawn = tabular.sample_trajectories(mdp, pi, 40_000, 3, g)
    every = enumerate_trajectories(mdp)

    def name(t):
        return [tuple(row) for row in torch.cat([t.state, t.action, t.valid.long()]).T.tolist()]

    expected, count = {}, {}
    for key, p in zip(name(every), probabilities(every, pi).tolist(), strict=True):
        expected[key] = expected.get(key, 0.0) + 40_000 * p
    for key in name(drawn):
        count[key] = count.get(key, 0) + 1
    assert set(count) <= set(expected)
    chi2 = sum((count.get(key, 0) - e) ** 2 / e for key, e in expected.items())
    n = len(expected) - 1
    assert abs(chi2 - n) < 4.0 * (2.0 * n) ** 0.5
    assert torch.equal(drawn.reward, torch.where(drawn.valid, mdp.reward[drawn.state, drawn.action], 0.0))
    assert torch.equal(drawn.last, ~drawn.valid | (drawn.discount == 0.0))


def test_padding_is_an_episode_of_its_own(small):
    """Nothing behind an episode's end reaches back over it."""
    every = enumerate_trajectories(small[0])
    assert every.last[-1].all()
    assert every.last[~every.valid].all()
    assert (every.reward[~every.valid] == 0.0).all()
    ends = every.valid & every.last
    assert (ends.sum(0) == 1).all()
    assert (every.discount[ends] == 0.0).all()
    assert (every.discount[every.valid & ~every.last] == 1.0).all()


def test_moments_are_those_of_many_draws():
    g = torch.Generator().manual_seed(0)
    estimates = torch.randn(6, 2, generator=g, dtype=torch.float64)
    p = torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0, 1.0], dtype=torch.float64) / 10.0
    many = estimates.repeat_interleave((10 * p).round().long(), 0)
    mean, covariance = tabular.moments(estimates, p)
    assert_close(mean, many.mean(0), **TIGHT)
    assert_close(covariance, torch.cov(many.T, correction=0), **TIGHT)


def test_what_has_no_end_is_refused():
    endless = random_mdp(2, 2, 0.9, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="outlast 3 steps"):
        enumerate_trajectories(endless, longest=3)
    with pytest.raises(ValueError, match="outlasted 3 steps"):
        tabular.sample_trajectories(endless, endless.policy(logits_of(endless)), 4, 3, torch.Generator())


def test_the_bridge_ends_early_or_at_its_limit():
    mdp = bridge()
    every = enumerate_trajectories(mdp)
    assert sorted(set(every.valid.sum(0).tolist())) == [1, 2, 3, 4, 5]
    assert torch.allclose(
        mdp.transition.sum(-1)[:3], torch.tensor([[1.0, 1.0], [0.5, 0.8], [1.0, 1.0]], dtype=torch.float64)
    )
