import math

import pytest
import torch
from naive import end, rollout, start, table
from torch.testing import assert_close

from pgrun.core import importance
from pgrun.core.importance import importance_weights, retrace, v_trace
from pgrun.core.returns import lambda_returns, reward_to_go

GAMMA = 0.9
LENGTHS = [1, 2, 7, 16]


def ratios(length, seed=1):
    """A rollout, log ρ of its steps, and valid: a filler row after some ends, padding at the end of one column."""
    r = rollout(length, seed=seed)
    g = torch.Generator().manual_seed(seed + 100)
    log_ratio = 0.7 * torch.randn(r.reward.shape, generator=g, dtype=torch.float64)
    valid = torch.ones_like(r.last)
    valid[1:] &= ~(r.last[:-1] & (torch.rand(r.last[1:].shape, generator=g) < 0.5))
    last = r.last & valid  # filler ends nothing
    valid[3 * length // 4 + 1 :, 2] = False
    return r._replace(last=last, discount=torch.where(last, r.discount, 1.0)), log_ratio, valid


def ratio(log_ratio, valid, t, b):
    return math.exp(log_ratio[t, b]) if valid[t, b] else 1.0


def episodes(last, valid):
    """The valid steps of each episode, [(t, b), …]."""
    found = []
    for b in range(last.shape[1]):
        for first in range(last.shape[0]):
            if first == 0 or last[first - 1, b]:
                episode = [(t, b) for t in range(first, end(last, first, b) + 1) if valid[t, b]]
                found += [episode] if episode else []
    return found


@pytest.mark.parametrize("length", LENGTHS)
def test_products_over_episodes(length):
    r, log_ratio, valid = ratios(length)

    def product(t0, t1, b):
        return math.prod(ratio(log_ratio, valid, t, b) for t in range(t0, t1 + 1))

    so_far = table(lambda t, b: product(start(r.last, t, b), t, b), r.reward)
    whole = table(lambda t, b: product(start(r.last, t, b), end(r.last, t, b), b), r.reward)
    assert_close(importance.per_decision(log_ratio, r.last, valid), so_far)
    assert_close(importance.trajectory(log_ratio, r.last, valid), whole)
    assert_close(
        importance.per_step(log_ratio, r.last, valid), table(lambda t, b: ratio(log_ratio, valid, t, b), r.reward)
    )


@pytest.mark.parametrize("length", LENGTHS)
def test_where_in_its_episode_a_row_is(length):
    r, _, valid = ratios(length)
    step, final = importance.steps(r.last, valid), importance.final_steps(r.last, valid)
    for episode in episodes(r.last, valid):
        assert [int(step[at]) for at in episode] == list(range(len(episode)))
        assert [bool(final[at]) for at in episode] == [False] * (len(episode) - 1) + [True]
    assert int(final.sum()) == len(episodes(r.last, valid))


def naive_weights(kind, log_ratio, last, valid, clip, self_normalize):
    """Episode by episode; for `per_decision`, what an ended episode weighs at later times is its last weight."""
    every = []
    for episode in episodes(last, valid):
        rho = [math.exp(log_ratio[at]) for at in episode]
        w = {
            "per_step": rho,
            "per_decision": [math.prod(rho[: k + 1]) for k in range(len(rho))],
            "trajectory": [math.prod(rho)] * len(rho),
        }[kind]
        every.append([min(x, clip) if clip else x for x in w])
    weights = torch.zeros_like(log_ratio)
    for episode, w in zip(episodes(last, valid), every, strict=True):
        for k, at in enumerate(episode):
            mean = {
                "per_step": sum(map(sum, every)) / sum(map(len, every)),
                "per_decision": sum(x[min(k, len(x) - 1)] for x in every) / len(every),
                "trajectory": sum(x[-1] for x in every) / len(every),
            }[kind]
            weights[at] = w[k] / mean if self_normalize else w[k]
    return weights


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", ["trajectory", "per_decision", "per_step"])
@pytest.mark.parametrize("clip", [None, 1.3])
@pytest.mark.parametrize("self_normalize", [False, True])
def test_weights_against_loops(kind, clip, self_normalize, length):
    r, log_ratio, valid = ratios(length)
    w = importance_weights(kind, log_ratio, r.last, valid, self_normalize=self_normalize, clip=clip)
    assert_close(w, naive_weights(kind, log_ratio, r.last, valid, clip, self_normalize))


@pytest.mark.parametrize("kind", importance.WEIGHTS)
@pytest.mark.parametrize("self_normalize", [False, True])
def test_on_policy_every_weight_is_one(kind, self_normalize):
    r, log_ratio, valid = ratios(16)
    w = importance_weights(kind, log_ratio * 0, r.last, valid, self_normalize=self_normalize, clip=2.0)
    assert torch.equal(w, valid.double())


def test_self_normalised_weights_survive_ratios_that_overflow():
    log_ratio = torch.full((60, 2), 5.0)  # a product of e^300
    log_ratio[0, 1] = 4.0
    last = torch.zeros(60, 2, dtype=torch.bool)
    last[-1] = True
    valid = torch.ones_like(last)
    for kind in ("trajectory", "per_decision"):
        w = importance_weights(kind, log_ratio, last, valid, self_normalize=True, clip=None)
        assert_close(w[-1], 2.0 * torch.tensor([0.0, -1.0]).softmax(0))


def test_weighted_rewards_to_go_are_the_per_decision_estimator():
    """Σ_t g_t Σ_{k≥t} γ^{k−t} r_k Π_{j≤k} ρ_j: the plain reward-to-go of weighted rewards."""
    r, log_ratio, valid = ratios(16)
    w = importance_weights("per_decision", log_ratio, r.last, valid, self_normalize=False, clip=None)
    zero = torch.zeros_like(w)

    def weighted(t, b):
        total = 0.0
        for k in range(t, end(r.last, t, b) + 1):
            product = math.prod(ratio(log_ratio, valid, j, b) for j in range(start(r.last, t, b), k + 1))
            total += GAMMA ** (k - t) * float(r.reward[k, b]) * product * bool(valid[k, b])
        return total

    assert_close(reward_to_go(w * r.reward, r.discount, r.last, zero, GAMMA), table(weighted, w))


def two_step_estimates(kind, log_ratio_of, reward_of, pi, mu):
    """E_μ[Σ_t w_t r_t] by enumeration over two binary actions, against E_π[Σ_t r_t]."""
    paths = [(a, b) for a in (0, 1) for b in (0, 1)]
    log_ratio = torch.tensor([[log_ratio_of(0, p), log_ratio_of(1, p)] for p in paths], dtype=torch.float64).T
    reward = torch.tensor([[reward_of(0, p), reward_of(1, p)] for p in paths], dtype=torch.float64).T
    last = torch.tensor([[False] * 4, [True] * 4])
    w = importance_weights(kind, log_ratio, last, torch.ones_like(last), self_normalize=False, clip=None)
    p_mu = torch.tensor([mu(0, p) * mu(1, p) for p in paths], dtype=torch.float64)
    p_pi = torch.tensor([pi(0, p) * pi(1, p) for p in paths], dtype=torch.float64)
    return float((p_mu * (w * reward).sum(0)).sum()), float((p_pi * reward.sum(0)).sum())


@pytest.mark.parametrize(("kind", "unbiased"), [("trajectory", True), ("per_decision", True), ("per_step", False)])
def test_which_weights_are_unbiased(kind, unbiased):
    """π(1) is 0.8 then 0.3 or 0.9, as the first action was; μ tosses a coin."""

    def pi(t, path):
        one = 0.8 if t == 0 else (0.9 if path[0] else 0.3)
        return one if path[t] else 1.0 - one

    def mu(t, path):
        return 0.5

    def reward(t, path):
        return [1.0, -2.0][path[0]] if t == 0 else [0.5, 3.0, -1.0, 4.0][2 * path[0] + path[1]]

    estimate, truth = two_step_estimates(kind, lambda t, p: math.log(pi(t, p) / mu(t, p)), reward, pi, mu)
    assert (abs(estimate - truth) < 1e-12) == unbiased


def naive_v_trace(r, log_ratio, lambda_, rho_bar, c_bar):
    """v_s = V(s) + Σ_t γ^{t−s} (Π_{i<t} c_i) ρ_t δ_t, and the advantages from the next v."""

    def rho(t, b):
        return min(rho_bar, math.exp(log_ratio[t, b]))

    def delta(t, b):
        bootstrap = GAMMA * float(r.discount[t, b] * r.next_value[t, b])
        return rho(t, b) * (float(r.reward[t, b]) + bootstrap - float(r.value[t, b]))

    def target(s, b):
        total = float(r.value[s, b])
        for t in range(s, end(r.last, s, b) + 1):
            c = math.prod(lambda_ * min(c_bar, math.exp(log_ratio[i, b])) for i in range(s, t))
            total += GAMMA ** (t - s) * c * delta(t, b)
        return total

    def advantage(s, b):
        cut = s == end(r.last, s, b)
        ahead = float(r.discount[s, b] * r.next_value[s, b]) if cut else target(s + 1, b)
        return rho(s, b) * (float(r.reward[s, b]) + GAMMA * ahead - float(r.value[s, b]))

    return table(target, r.reward), table(advantage, r.reward)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("lambda_", "rho_bar", "c_bar"), [(1.0, 1.0, 1.0), (0.9, 1.5, 0.8)])
def test_v_trace_against_loops(length, lambda_, rho_bar, c_bar):
    r, log_ratio, _ = ratios(length)
    got = v_trace(*r, log_ratio, GAMMA, lambda_=lambda_, rho_bar=rho_bar, c_bar=c_bar)
    target, advantage = naive_v_trace(r, log_ratio, lambda_, rho_bar, c_bar)
    assert_close(got.target, target)
    assert_close(got.advantage, advantage)


def connected(r):
    """The rollout with V(s_{t+1}) of a step equal to V(s_t) of the next one, as one network's values are."""
    next_value = r.next_value.clone()
    next_value[:-1] = torch.where(r.last[:-1], next_value[:-1], r.value[1:])
    return r._replace(next_value=next_value)


def test_v_trace_on_policy_is_the_return_to_the_rollouts_end():
    """Espeholt et al. 2018, eq. 2; with λ it is the λ-return."""
    r = connected(rollout(16))
    zero = torch.zeros_like(r.reward)
    target = reward_to_go(r.reward, r.discount, r.last, r.next_value, GAMMA)
    got = v_trace(*r, zero, GAMMA)
    assert_close(got.target, target)
    assert_close(got.advantage, target - r.value)
    mixed = lambda_returns(r.reward, r.discount, r.last, r.next_value, GAMMA, 0.8)
    assert_close(v_trace(*r, zero, GAMMA, lambda_=0.8).target, mixed)


@pytest.mark.parametrize("length", LENGTHS)
def test_retrace_against_loops(length):
    """Munos et al. 2016, eq. 3: Q_t + Σ_k γ^{k−t} (Π_{t<i≤k} c_i) δ_k, with δ_k = r_k + γ V(s_{k+1}) − Q_k."""
    r, log_ratio, _ = ratios(length)
    q, trace = r.value, 0.95 * log_ratio.exp().clamp(max=1.0)

    def target(t, b):
        total = float(q[t, b])
        for k in range(t, end(r.last, t, b) + 1):
            delta = r.reward[k, b] + GAMMA * r.discount[k, b] * r.next_value[k, b] - q[k, b]
            total += GAMMA ** (k - t) * math.prod(float(trace[i, b]) for i in range(t + 1, k + 1)) * float(delta)
        return total

    got = retrace(r.reward, r.discount, r.last, r.next_value, q, trace, GAMMA)
    assert_close(got, table(target, q))


def test_retrace_without_correction_is_the_reward_to_go_where_q_is_v():
    r = connected(rollout(16))
    got = retrace(r.reward, r.discount, r.last, r.next_value, r.value, torch.ones_like(r.value), GAMMA)
    assert_close(got, reward_to_go(r.reward, r.discount, r.last, r.next_value, GAMMA))


def test_retrace_without_traces_is_one_step_expected_sarsa():
    r = rollout(16)
    got = retrace(r.reward, r.discount, r.last, r.next_value, r.value, torch.zeros_like(r.value), GAMMA)
    assert_close(got, r.reward + GAMMA * r.discount * r.next_value)


@pytest.mark.parametrize("given_as", ["gamma", "discount"])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_discount_that_differs_by_step(length, given_as):
    """γ_t is of the step from s_t to s_{t+1}, and 0 where the MDP terminated."""
    r, log_ratio, _ = ratios(length)
    rates = torch.rand(r.reward.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    by_step, q, trace = rates * r.discount, r.value, 0.95 * log_ratio.exp().clamp(max=1.0)
    gamma, discount = (rates, r.discount) if given_as == "gamma" else (1.0, by_step)

    def corrected(t, b, weight):
        """Q_t + Σ_k (Π_{t≤i<k} γ_i) weight(k) δ_k."""
        total, product = float(q[t, b]), 1.0
        for k in range(t, end(r.last, t, b) + 1):
            delta = float(r.reward[k, b] + by_step[k, b] * r.next_value[k, b] - q[k, b])
            total += product * weight(k) * delta
            product *= float(by_step[k, b])
        return total

    def of_retrace(t, b):
        return corrected(t, b, lambda k: math.prod(float(trace[i, b]) for i in range(t + 1, k + 1)))

    def of_v_trace(t, b):
        ratio = log_ratio.exp().clamp(max=1.0)
        return corrected(t, b, lambda k: math.prod(float(ratio[i, b]) for i in range(t, k + 1)))

    got = retrace(r.reward, discount, r.last, r.next_value, q, trace, gamma)
    assert_close(got, table(of_retrace, q))
    got = v_trace(r.reward, discount, r.last, r.value, r.next_value, log_ratio, gamma).target
    assert_close(got, table(of_v_trace, q))
