"""Baselines that a batch makes for itself: leaving one's own trajectory out keeps the estimator unbiased."""

import pytest
import torch
from exact import exact, hotelling, named
from torch.testing import assert_close

from pgrun.core import tabular
from pgrun.core.advantages import RewardToGo, TotalReturn
from pgrun.core.baselines import Average, average_of_others, optimal_of_others
from pgrun.core.normalization import normalize
from pgrun.core.tabular import random_mdp

TINY = exact(random_mdp(2, 2, 0.8, torch.Generator().manual_seed(2), ends=0.2).limited(2))
NAMED = named()


def tuples(study, n):
    """Every batch of n trajectories, [N^n, n], and the probabilities [N^n]."""
    index = torch.cartesian_prod(*[torch.arange(len(study.p))] * n)
    return index, study.p[index].prod(-1)


def to_go(study, trajectories=None):
    """γ^t times reward-to-go, [T, N]."""
    every = study.every if trajectories is None else trajectories
    return study.time * RewardToGo()(every.returns(study.zero), study.gamma)[0]


def test_the_average_of_the_others_over_every_pair():
    """Of whatever is averaged at t: reward-to-go with its γ^t here. Episodes of one and of two steps."""
    index, p = tuples(TINY, 2)
    psi, every = to_go(TINY), TINY.every
    mean = torch.zeros_like(TINY.gradient)
    for pair, probability in zip(index, p, strict=True):
        weight = Average()(psi[:, pair], every.last[:, pair], every.valid[:, pair])
        mean += probability * torch.einsum("tnp,tn->p", TINY.score[:, pair], weight) / 2.0
    assert_close(mean, TINY.gradient, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("per_parameter", [False, True])
@pytest.mark.parametrize("n", [2, 3])
def test_the_optimum_of_the_others_over_every_batch(n, per_parameter):
    index, p = tuples(TINY, n)
    g, g_hat = TINY.estimates(TINY.time)[index], TINY.estimates(to_go(TINY))[index]  # [batches, n, P]
    b = torch.vmap(lambda x, y: optimal_of_others(x, y, per_parameter))(g, g_hat)
    b = b if per_parameter else b.unsqueeze(-1)
    assert_close(p @ (g_hat - b * g).mean(1), TINY.gradient, rtol=0.0, atol=1e-12)
    own = (g * g_hat).sum((1, 2)) / g.square().sum((1, 2))  # the control: its own trajectory in it
    mean = p @ (g_hat - own[:, None, None] * g).mean(1)
    assert (mean - TINY.gradient).norm() > 0.1 * TINY.gradient.norm()


def test_of_very_many_it_is_the_constant_of_least_variance():
    """Each trajectory as often as its probability says, so that leaving one out hardly matters."""
    count = (NAMED.p * 2_000).round().long()
    index = torch.arange(len(count)).repeat_interleave(count)
    total = TotalReturn()(NAMED.every.returns(NAMED.zero), NAMED.gamma)[0][0].unsqueeze(-1)
    g = NAMED.score.sum(0)
    exact_ = (NAMED.p @ (g * g * total)).sum() / (NAMED.p @ g.square()).sum()
    found = optimal_of_others(g[index], (g * total)[index], False)
    assert (found - exact_).abs().max() < 0.05 * exact_.abs()
    every = NAMED.every.pick(index)
    average = average_of_others(total.T.expand(5, -1)[:, index], every.last, every.valid)
    assert (average[0] - NAMED.p @ total[:, 0]).abs().max() < 0.05 * (NAMED.p @ total[:, 0]).abs()


BATCHES, SIZE = 1_500, 8


@pytest.fixture(scope="module")
def drawn():
    """Batches of eight sampled trajectories of the named MDP: their scores [T, K, 8, P], weights and masks."""
    g = torch.Generator().manual_seed(5)
    trajectories = tabular.sample_trajectories(NAMED.mdp, NAMED.pi, BATCHES * SIZE, 5, g)
    shape = (BATCHES, SIZE)
    return {
        "score": tabular.scores(trajectories, NAMED.logits).unflatten(1, shape),
        "psi": to_go(NAMED, trajectories).unflatten(1, shape),
        "last": trajectories.last.unflatten(1, shape),
        "valid": trajectories.valid.unflatten(1, shape),
    }


def batch_estimates(drawn, form):
    """One estimate a batch, [K, P]."""
    found = []
    for k in range(BATCHES):
        score, psi, last, valid = (drawn[key][:, k] for key in ("score", "psi", "last", "valid"))
        found.append(form(score, psi, last, valid) / SIZE)
    return torch.stack(found)


def plain(score, psi, last, valid):
    return torch.einsum("tnp,tn->p", score, psi)


def average(score, psi, last, valid):
    return plain(score, Average()(psi, last, valid), last, valid)


def optimal(score, psi, last, valid, per_parameter=False):
    g, g_hat = (score * NAMED.time.unsqueeze(-1)).sum(0), torch.einsum("tnp,tn->np", score, psi)
    b = optimal_of_others(g, g_hat, per_parameter)
    return (g_hat - (b if per_parameter else b.unsqueeze(-1)) * g).sum(0)


def optimal_per_parameter(score, psi, last, valid):
    return optimal(score, psi, last, valid, per_parameter=True)


def own_average(score, psi, last, valid):
    n = valid.sum(1, keepdim=True).clamp(min=1)
    return plain(score, psi - (psi * valid).sum(1, keepdim=True) / n, last, valid)


def standardised(score, psi, last, valid):
    return plain(score, normalize(psi, valid), last, valid)


@pytest.mark.parametrize("form", [plain, average, optimal, optimal_per_parameter])
def test_in_batches_of_eight_they_are_unbiased(drawn, form):
    assert hotelling(batch_estimates(drawn, form), NAMED.gradient) > 0.01


@pytest.mark.parametrize("form", [own_average, standardised])
def test_and_as_many_batches_find_the_biased_ones_out(drawn, form):
    assert hotelling(batch_estimates(drawn, form), NAMED.gradient) < 1e-6


def test_and_they_do_lower_the_variance(drawn):
    found = {form.__name__: batch_estimates(drawn, form).var(0).sum().item() for form in (plain, average, optimal)}
    assert found["average"] < 0.8 * found["plain"]
    assert found["optimal"] < 0.8 * found["plain"]
