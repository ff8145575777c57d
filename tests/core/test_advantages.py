import naive
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pgrun.core.advantages import GAE, TD, Advantage, NStep, Returns, RewardToGo, TotalReturn, normalize

GAMMA = 0.9
TIGHT = {"rtol": 0.0, "atol": 1e-10}


@pytest.fixture
def r():
    return naive.rollout(11)


def check(r, advantage, psi, target):
    """`psi` and `target` are functions of (t, b)."""
    got_psi, got_target = advantage(Returns(*r), GAMMA)
    assert_close(got_psi, naive.table(psi, r.reward), **TIGHT)
    assert_close(got_target, naive.table(target, r.reward), **TIGHT)


def test_total_return(r):
    def whole(t, b):
        begin = naive.start(r.last, t, b)
        stop = naive.end(r.last, t, b)
        return sum(GAMMA ** (k - begin) * float(r.reward[k, b]) for k in range(begin, stop + 1)) - float(r.value[t, b])

    def to_go(t, b):
        return sum(GAMMA ** (k - t) * float(r.reward[k, b]) for k in range(t, naive.end(r.last, t, b) + 1))

    check(r, TotalReturn(), whole, to_go)


def test_reward_to_go_and_nstep_to_the_end(r):
    def target(t, b):
        return naive.n_step(r, t, b, GAMMA, 11)

    def psi(t, b):
        return target(t, b) - float(r.value[t, b])

    check(r, RewardToGo(), psi, target)
    check(r, NStep(n=None), psi, target)


@pytest.mark.parametrize("n", [1, 4])
def test_nstep(r, n):
    def target(t, b):
        return naive.n_step(r, t, b, GAMMA, n)

    check(r, NStep(n=n), lambda t, b: target(t, b) - float(r.value[t, b]), target)


def test_td(r):
    def target(t, b):
        return naive.n_step(r, t, b, GAMMA, 1)

    check(r, TD(), lambda t, b: target(t, b) - float(r.value[t, b]), target)


def test_gae(r):
    def psi(t, b):
        return naive.gae(r, t, b, GAMMA, 0.8)

    check(r, GAE(lambda_=0.8), psi, lambda t, b: psi(t, b) + float(r.value[t, b]))


def test_which_need_a_value_and_which_whole_episodes():
    every = [TotalReturn(), RewardToGo(), TD(), NStep(n=None), GAE(lambda_=0.5)]
    assert [a.needs_value for a in every] == [False, False, True, True, True]
    assert [a.whole_episodes for a in every] == [True, False, False, False, False]


def test_the_base_class_is_no_advantage(r):
    with pytest.raises(NotImplementedError):
        Advantage()(Returns(*r), GAMMA)


def test_normalize_is_over_the_valid_entries_alone():
    x = torch.randn(9, 4, dtype=torch.float64) * 3.0 + 5.0
    valid = torch.rand(9, 4) < 0.6
    x[~valid] = 1e6
    got = normalize(x, valid)
    kept = x[valid].numpy()
    assert_close(got[valid], torch.from_numpy((kept - kept.mean()) / (np.std(kept, ddof=1) + 1e-8)), **TIGHT)
    assert torch.equal(got[~valid], torch.zeros_like(got[~valid]))


def test_normalize_of_equal_or_single_entries_is_zero():
    assert torch.equal(normalize(torch.full((4,), 7.0), torch.ones(4, dtype=torch.bool)), torch.zeros(4))
    assert torch.equal(normalize(torch.tensor([7.0, 9.0]), torch.tensor([True, False])), torch.zeros(2))
