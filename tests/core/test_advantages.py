import math

import naive
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pgrun.core.advantages import (
    GAE,
    TD,
    Advantage,
    LearnedAdvantage,
    NStep,
    Ones,
    Q,
    Returns,
    RewardToGo,
    TotalReturn,
    VTrace,
)
from pgrun.core.normalization import normalize, normalize_episodes, steps_weight

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


def connected(r):
    """V(s_{t+1}) of a step is V(s_t) of the next one, as one network's values are."""
    return r._replace(next_value=torch.where(r.last, r.next_value, torch.cat([r.value[1:], r.next_value[-1:]])))


def test_v_trace_on_the_policys_own_actions_is_n_step_to_the_end_and_gae_at_lambda_1(r):
    r = connected(r)
    for bar in (1.0, None):
        psi, target = VTrace(rho_bar=bar, c_bar=bar)(Returns(*r), GAMMA)
        same = VTrace(rho_bar=bar, c_bar=bar)(Returns(*r, log_ratio=torch.zeros_like(r.value)), GAMMA)
        assert torch.equal(psi, same[0])
        for other in (NStep(n=None), GAE(lambda_=1.0)):
            expected_psi, expected_target = other(Returns(*r), GAMMA)
            assert_close(psi, expected_psi, **TIGHT)
            assert_close(target, expected_target, **TIGHT)


@pytest.mark.parametrize(("rho_bar", "c_bar"), [(1.0, 1.0), (1.3, 0.7), (None, None)])
def test_v_trace_of_another_policys_actions(r, rho_bar, c_bar):
    log_ratio = 0.7 * torch.randn(r.reward.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def cut(t, b, bar):
        return min(math.exp(log_ratio[t, b]), math.inf if bar is None else bar)

    def target(t, b):  # v_t = V(s_t) + Σ_k γ^{k−t} (Π_{i<k} c_i) ρ_k δ_k
        total = float(r.value[t, b])
        for k in range(t, naive.end(r.last, t, b) + 1):
            delta = float(r.reward[k, b] + GAMMA * r.discount[k, b] * r.next_value[k, b] - r.value[k, b])
            total += GAMMA ** (k - t) * math.prod(cut(i, b, c_bar) for i in range(t, k)) * cut(k, b, rho_bar) * delta
        return total

    def q(t, b):  # r_t + γ v_{t+1}
        ahead = float(r.next_value[t, b]) if t == naive.end(r.last, t, b) else target(t + 1, b)
        return float(r.reward[t, b]) + GAMMA * float(r.discount[t, b]) * ahead

    advantage, given = VTrace(rho_bar=rho_bar, c_bar=c_bar), Returns(*r, log_ratio=log_ratio)
    psi, fitted = advantage(given, GAMMA)
    assert_close(psi, naive.table(lambda t, b: cut(t, b, rho_bar) * (q(t, b) - float(r.value[t, b])), psi), **TIGHT)
    assert_close(fitted, naive.table(target, psi), **TIGHT)
    same, fitted = advantage(given._replace(q=torch.zeros_like(psi)), GAMMA)  # beside a critic of actions
    assert torch.equal(same, psi)
    assert_close(fitted, naive.table(q, psi), **TIGHT)


def test_which_bootstrap_within_a_rollout():
    every = [TD(), NStep(n=4), GAE(lambda_=0.9), Q(center=True, dueling=True, lambda_=1.0), LearnedAdvantage(lambda_=1)]
    assert all(a.bootstraps for a in every)
    none = [TotalReturn(), RewardToGo(), NStep(n=None), GAE(lambda_=1.0), VTrace(rho_bar=1.0, c_bar=1.0), Ones()]
    assert not any(a.bootstraps for a in none)


def test_which_need_a_value_and_which_whole_episodes():
    every = [TotalReturn(), RewardToGo(), TD(), NStep(n=None), GAE(lambda_=0.5), Ones()]
    assert [a.needs_value for a in every] == [False, False, True, True, True, False]
    assert [a.whole_episodes for a in every] == [True, False, False, False, False, False]
    assert [a.discounted for a in every] == [True, False, False, False, False, False]


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


def test_ones(r):
    check(r, Ones(), lambda t, b: 1.0, lambda t, b: naive.n_step(r, t, b, GAMMA, 11))


@pytest.mark.parametrize(("n", "window"), [(3, "fixed"), (3, None), (None, "rollout"), (None, None)])
def test_windows(r, n, window):
    def target(t, b):
        return naive.n_step(r, t, b, GAMMA, n or 11)

    advantage = NStep(n=n, window=window)
    assert advantage.wrong() is None
    check(r, advantage, lambda t, b: target(t, b) - float(r.value[t, b]), target)


def test_a_window_without_its_length_and_a_length_without_its_window():
    assert "add algo.advantage.n=" in NStep(n=None, window="fixed").wrong()
    assert "algo.advantage.n=4 is the length of algo.advantage.window=fixed" in NStep(n=4, window="rollout").wrong()


@pytest.mark.parametrize("lambda_", [0.0, 0.7])
def test_q_and_a_learned_advantage(r, lambda_):
    q = torch.randn_like(r.reward)

    def target(t, b):  # of expected SARSA at λ = 0: r + γ Σ_a π Q
        return naive.lambda_return(r, t, b, GAMMA, lambda_)

    def table(psi):
        return naive.table(psi, r.reward)

    for advantage, taken in (
        (Q(center=False, dueling=False, lambda_=lambda_), lambda t, b: 0.0),
        (Q(center=True, dueling=False, lambda_=lambda_), lambda t, b: float(r.value[t, b])),
        (LearnedAdvantage(lambda_=lambda_), lambda t, b: float(r.value[t, b])),
    ):
        psi, got = advantage(Returns(*r, q), GAMMA)
        assert_close(psi, q - table(taken), **TIGHT)
        assert_close(got, table(target), **TIGHT)


def test_normalize_each_episode(r):
    valid = torch.rand(11, 6) < 0.8
    got = normalize_episodes(r.reward, r.last, valid)
    assert torch.equal(got[~valid], torch.zeros_like(got[~valid]))
    for t, b in valid.nonzero().tolist():
        steps = [k for k in range(naive.start(r.last, t, b), naive.end(r.last, t, b) + 1) if valid[k, b]]
        x = r.reward[steps, b].numpy()
        std = np.std(x, ddof=1) if len(x) > 1 else 0.0
        assert float(got[t, b]) == pytest.approx((float(r.reward[t, b]) - x.mean()) / (std + 1e-8), abs=1e-6)


def test_steps_weight():
    last = torch.tensor([[0, 1], [1, 0], [0, 0], [1, 1], [0, 0]]) > 0
    valid = torch.tensor([[1, 1], [1, 1], [1, 1], [1, 1], [0, 0]]) > 0  # episodes of 2, 2 and 1, 3 steps
    m, n = 8.0, 4.0
    length = torch.tensor([[2.0, 1.0], [2.0, 3.0], [2.0, 3.0], [2.0, 3.0]])
    for reduce, weight in {"rows": torch.ones(4, 2), "sum": torch.full((4, 2), m / n), "mean": m / n / length}.items():
        assert_close(steps_weight(last, valid, reduce)[:4], weight)
