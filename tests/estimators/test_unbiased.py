"""Some Ψ_t make Σ_t g_t Ψ_t the gradient on average, others don't: no sampling, all trajectories are weighed."""

from dataclasses import replace

import pytest
import torch
from exact import exact, named, random_studies
from torch.testing import assert_close

from pgrun.core import normalization, returns
from pgrun.core.advantages import GAE, TD, LearnedAdvantage, NStep, Q, RewardToGo, TotalReturn
from pgrun.core.mixture import Mixture
from pgrun.core.tabular import random_mdp

STUDIES = [named(), *random_studies(3)]
NAMED = STUDIES[0]


def noise(study, seed=7):
    """A V(s) that is nobody's [S]."""
    return torch.randn(len(study.value), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def psi(study, advantage, value=None):
    """γ^t Ψ_t, by default without a V."""
    table = study.zero if value is None else value
    return study.time * advantage(study.every.returns(table), study.gamma)[0]


def table(study, of):
    """γ^t Ψ_t of a table over states and actions."""
    return study.time * of[study.every.state, study.every.action]


MIXTURE = Mixture(terms={"td": TD(), "to_go": RewardToGo()}, weights={"td": 0.4, "to_go": 0.6})


def with_critic(study, advantage, q):
    """γ^t Ψ_t of a critic of actions Q(s, a) [S, A]; its V(s) is the mean under π."""
    value = (study.pi * q).sum(-1)
    r = study.every.returns(value)._replace(q=q[study.every.state, study.every.action])
    return study.time * advantage(r, study.gamma)[0]


def wrong_q(study):
    g = torch.Generator().manual_seed(9)
    return study.q + torch.randn(study.q.shape, generator=g, dtype=torch.float64)


UNBIASED = {
    "a learned Q that is right": lambda s: with_critic(s, Q(center=False, dueling=False, lambda_=1.0), s.q),
    "a learned Q that is right, centred": lambda s: with_critic(s, Q(center=True, dueling=False, lambda_=1.0), s.q),
    "a learned Q that is right plus any V": lambda s: with_critic(
        s, Q(center=False, dueling=False, lambda_=1.0), s.q + noise(s).unsqueeze(-1)
    ),
    "a learned advantage that is right": lambda s: with_critic(s, LearnedAdvantage(lambda_=1.0), s.q),
    "a mixture with the true V": lambda s: psi(s, MIXTURE, s.value),
    "the total return": lambda s: TotalReturn()(s.every.returns(s.zero), s.gamma)[0],
    "the total return minus a constant": lambda s: TotalReturn()(s.every.returns(s.zero + 2.5), s.gamma)[0],
    "reward-to-go": lambda s: psi(s, RewardToGo()),
    "reward-to-go minus any V": lambda s: psi(s, RewardToGo(), noise(s)),
    "reward-to-go minus the average at each time": lambda s: (
        psi(s, RewardToGo()) - s.per_step_mean(psi(s, RewardToGo()))
    ),
    "reward-to-go minus the true V": lambda s: psi(s, RewardToGo(), s.value),
    "Q": lambda s: table(s, s.q),
    "A": lambda s: table(s, s.mdp.advantage(s.pi)),
    "Q minus any V": lambda s: table(s, s.q - noise(s).unsqueeze(-1)),
    "TD with the true V": lambda s: psi(s, TD(), s.value),
    "two steps with the true V": lambda s: psi(s, NStep(n=2), s.value),
    "GAE with the true V": lambda s: psi(s, GAE(lambda_=0.6), s.value),
    "GAE at λ = 1 with any V": lambda s: psi(s, GAE(lambda_=1.0), noise(s)),
    "n-step to the end with any V": lambda s: psi(s, NStep(n=None), noise(s)),
}
BIASED = {
    "a learned Q that is wrong": lambda s: with_critic(s, Q(center=False, dueling=False, lambda_=1.0), wrong_q(s)),
    "a learned advantage that is wrong": lambda s: with_critic(s, LearnedAdvantage(lambda_=1.0), wrong_q(s)),
    "a mixture with a wrong V": lambda s: psi(s, MIXTURE, noise(s)),
    "reward-to-go without γ^t": lambda s: psi(s, RewardToGo()) / s.time,
    "a baseline that knows the action": lambda s: psi(s, RewardToGo()) - table(s, s.q),
    "TD with a wrong V": lambda s: psi(s, TD(), noise(s)),
    "GAE with a wrong V": lambda s: psi(s, GAE(lambda_=0.6), noise(s)),
    "two steps with a wrong V": lambda s: psi(s, NStep(n=2), noise(s)),
    "only what was paid before": lambda s: TotalReturn()(s.every.returns(s.zero), s.gamma)[0] - psi(s, RewardToGo()),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased(name):
    for study in STUDIES:
        assert study.gradient.norm() > 0.02
        assert_close(study.mean(UNBIASED[name](study)), study.gradient, rtol=0.0, atol=1e-12)


TERMS = {
    "td": TD(),
    "gae": GAE(lambda_=0.6),
    "to_go": RewardToGo(),
    "whole": TotalReturn(),
    "q": Q(center=False, dueling=False, lambda_=1.0),
}
SUMS = [
    {"td": 2.0, "gae": -0.5, "to_go": 1.0},
    {"td": -1.0, "whole": -1.5},
    {"q": 3.0, "whole": -2.5, "gae": 0.5},
    {"q": 0.3, "td": 0.2},
    {"q": 1.0, "to_go": -1.0},
]


@pytest.mark.parametrize("weights", SUMS)
def test_the_sum_of_the_weights_scales_the_gradient(weights):
    """With the true V and Q; beside a total return, each term has its γ^t."""
    mixed = Mixture(terms=TERMS, weights=weights)
    for study in STUDIES:
        weight = with_critic(study, mixed, study.q)
        mean = study.mean(weight / study.time if mixed.discounted else weight)
        assert_close(mean, sum(weights.values()) * study.gradient, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", BIASED)
def test_biased(name):
    assert NAMED.bias(BIASED[name](NAMED)) > 0.05
    assert all(study.bias(BIASED[name](study)) > 1e-3 for study in STUDIES)


def test_without_discounting_the_missing_factor_is_no_bias():
    """γ^t is 1 then; and with γ < 1 the mean is the gradient of nothing that discounts, by the size of the bias."""
    study = exact(random_mdp(2, 2, 1.0, torch.Generator().manual_seed(5), ends=0.3).limited(3))
    assert study.bias(psi(study, RewardToGo()) / study.time) < 1e-12


def test_the_mean_over_an_episodes_steps_weighs_short_episodes_more():
    """`reduce=mean`: unbiased up to a constant factor only where all episodes are of one length."""
    length = NAMED.every.valid.sum(0)
    mean = NAMED.p @ (NAMED.estimates(psi(NAMED, RewardToGo())) / length.unsqueeze(-1))
    cosine = torch.nn.functional.cosine_similarity(mean, NAMED.gradient, 0)
    assert cosine < 0.995  # another direction, so that no factor mends it
    fixed = random_studies(1, ends=0.0)[0]
    mean = fixed.p @ (fixed.estimates(psi(fixed, RewardToGo())) / 3.0)
    assert_close(3.0 * mean, fixed.gradient, rtol=0.0, atol=1e-12)


def pairs(study):
    """Every batch of two trajectories: their indices [2, N²] and the probabilities [N²]."""
    n = len(study.p)
    i, j = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    return torch.stack([i, j]), study.p[i] * study.p[j]


def triples(study):
    """Every batch of three, [3, N³] and [N³]."""
    n = len(study.p)
    index = torch.cartesian_prod(*[torch.arange(n)] * 3).T
    return index, study.p[index].prod(0)


TINY = exact(random_mdp(2, 2, 0.8, torch.Generator().manual_seed(2), ends=0.2).limited(2))  # few trajectories


@pytest.mark.parametrize(("batches", "n"), [(pairs, 2), (triples, 3)])
def test_the_plain_batch_mean_shrinks_the_gradient_and_leaving_one_out_does_not(batches, n):
    """Minus the mean of all N returns, one's own among them, the mean is (1 − 1/N) ∇J."""
    index, p = batches(TINY)
    assert_close(p.sum(), torch.tensor(1.0, dtype=torch.float64))
    total = TotalReturn()(TINY.every.returns(TINY.zero), TINY.gamma)[0][0]  # R [N]
    g = TINY.estimates(torch.ones(1, 1, dtype=torch.float64))  # Σ_t g_t [N, P]
    r = total[index]  # [n, batches]
    for baseline, factor in ((r.mean(0), 1.0 - 1.0 / n), ((r.sum(0) - r) / (n - 1), 1.0)):
        estimate = torch.einsum("nkp,nk->kp", g[index], r - baseline) / n
        assert_close(p @ estimate, factor * TINY.gradient, rtol=0.0, atol=1e-12)


def test_standardised_returns_are_biased_in_length_and_direction():
    index, p = triples(TINY)
    batch = TINY.every.pick(index.flatten())
    weight = RewardToGo()(batch.returns(TINY.zero), TINY.gamma)[0].unflatten(1, index.shape)  # [T, 3, batches]
    valid = batch.valid.unflatten(1, index.shape)
    standard = torch.vmap(normalization.normalize, in_dims=2, out_dims=2)(weight, valid)
    score = TINY.score[:, index]  # [T, 3, batches, P]

    def mean(psi):
        return p @ torch.einsum("tnkp,tnk->kp", score, TINY.time.unsqueeze(-1) * psi) / 3.0

    assert_close(mean(weight), TINY.gradient, rtol=0.0, atol=1e-12)  # the control: not standardised
    off = mean(standard)
    cosine = torch.nn.functional.cosine_similarity(off, TINY.gradient, 0)
    assert (off - TINY.gradient).norm() > 0.1 * TINY.gradient.norm()
    assert cosine < 0.999


def optimal(g, weighted):
    """b* = E[ĝ·g] / E[g·g] of a batch; g and ĝ [n, batches, P]."""
    return (g * weighted).sum((0, -1)) / g.square().sum((0, -1))


def test_the_own_batchs_optimal_baseline_is_biased_and_leaving_one_out_is_not():
    index, p = triples(TINY)
    total = TotalReturn()(TINY.every.returns(TINY.zero), TINY.gamma)[0][0]
    g = TINY.estimates(torch.ones(1, 1, dtype=torch.float64))[index]  # [3, batches, P]
    r = total[index].unsqueeze(-1)
    own = optimal(g, g * r)
    mean = p @ (g * (r - own.unsqueeze(-1))).mean(0)
    assert (mean - TINY.gradient).norm() > 0.1 * TINY.gradient.norm()
    others = torch.stack([optimal(*(x[[j for j in range(3) if j != i]] for x in (g, g * r))) for i in range(3)])
    mean = p @ (g * (r - others.unsqueeze(-1))).mean(0)
    assert_close(mean, TINY.gradient, rtol=0.0, atol=1e-12)


def test_the_score_has_mean_zero_given_the_past_and_not_given_the_future():
    states, steps = len(NAMED.value), len(NAMED.every.state)
    future = 0.0
    for t in range(steps):
        for k in range(steps):
            for s in range(states):
                for a in range(NAMED.pi.shape[1]) if k < t else (None,):  # a past action may be known, too
                    known = NAMED.every.valid[k] & (NAMED.every.state[k] == s)
                    if a is not None:
                        known &= NAMED.every.action[k] == a
                    mass = NAMED.p[known].sum()
                    if mass < 1e-12:
                        continue
                    mean = NAMED.p[known] @ NAMED.score[t, known] / mass
                    if k <= t:
                        assert mean.norm() < 1e-12
                    else:
                        future = max(future, float(mean.norm()))
    assert future > 0.3


def test_a_wrong_value_biases_td_and_less_and_less_up_to_lambda_one():
    wrong = NAMED.value + 0.5 * noise(NAMED)
    bias = [NAMED.bias(psi(NAMED, GAE(lambda_=x), wrong)) for x in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)]
    assert bias == sorted(bias, reverse=True)
    assert bias[0] > 0.1
    assert bias[-1] < 1e-12
    assert NAMED.bias(psi(NAMED, TD(), wrong)) == pytest.approx(bias[0])


def test_on_states_that_look_alike_reward_to_go_stays_unbiased_and_td_does_not():
    """Partial observability: V(o) is the best that can be had, the visits' mean of V(s)."""
    mdp = replace(NAMED.mdp, sees=NAMED.mdp.sees.clamp(max=1))  # on the bridge or beyond it?
    study = exact(mdp, 3)
    visits = mdp.visits(study.pi)
    mass = torch.zeros(2, dtype=torch.float64).index_add(0, mdp.sees, visits)
    blurred = (torch.zeros(2, dtype=torch.float64).index_add(0, mdp.sees, visits * study.value) / mass)[mdp.sees]
    assert (blurred - study.value).abs().max() > 0.1
    for advantage in (RewardToGo(), GAE(lambda_=1.0)):
        assert study.bias(psi(study, advantage, blurred)) < 1e-12
    assert study.bias(psi(study, TD(), study.value)) < 1e-12  # with the state's own V it is right
    assert study.bias(psi(study, TD(), blurred)) > 0.05


def test_gae_is_a_mixture_of_all_n_step_advantages():
    """GAE = (1 − λ) Σ_{n<N} λ^{n−1} Â⁽ⁿ⁾ + λ^{N−1} Â⁽ᴺ⁾, where no episode is longer than N."""
    study, lambda_ = STUDIES[1], 0.7
    n = len(study.every.state)
    r = study.every.returns(noise(study))
    steps = [NStep(n=k)(r, study.gamma)[0] for k in range(1, n + 1)]
    mixed = (1.0 - lambda_) * sum(lambda_**k * a for k, a in enumerate(steps[:-1])) + lambda_ ** (n - 1) * steps[-1]
    valid = study.every.valid
    gae = GAE(lambda_=lambda_)(r, study.gamma)[0]
    assert_close(gae[valid], mixed[valid], rtol=0.0, atol=1e-12)
    assert_close(GAE(lambda_=0.0)(r, study.gamma)[0], TD()(r, study.gamma)[0], rtol=0.0, atol=1e-12)
    to_go = RewardToGo()(study.every.returns(study.zero), study.gamma)[0] - r.value
    assert_close(GAE(lambda_=1.0)(r, study.gamma)[0][valid], to_go[valid], rtol=0.0, atol=1e-12)
    assert not torch.allclose(gae[valid], steps[-1][valid])


def test_shaping_leaves_gradient_and_advantages():
    """r + γΦ(s′) − Φ(s) with Φ = 0 behind the end: A is the same, V lower by Φ, ∇J the same."""
    study = NAMED
    phi, every, mdp = noise(study), study.every, study.mdp
    shaped = mdp.paying(mdp.reward + mdp.gamma * mdp.transition @ phi - phi.unsqueeze(-1))  # its mean
    assert_close(shaped.advantage(study.pi), mdp.advantage(study.pi), rtol=0.0, atol=1e-12)
    assert_close(shaped.value(study.pi), study.value - phi, rtol=0.0, atol=1e-12)
    assert_close(shaped.gradient(study.logits), study.gradient, rtol=0.0, atol=1e-12)
    bonus = mdp.gamma * every.discount * phi[every.next_state] - phi[every.state]
    paid = every._replace(reward=torch.where(every.valid, every.reward + bonus, 0.0))
    weight = RewardToGo()(paid.returns(study.zero), mdp.gamma)[0]
    assert_close(study.mean(study.time * weight), study.gradient, rtol=0.0, atol=1e-12)
    # not with a potential behind the end, where one may be worth ending in
    wrong = every._replace(reward=every.reward + torch.where(every.valid & every.last, mdp.gamma * 3.0, 0.0))
    assert study.bias(study.time * RewardToGo()(wrong.returns(study.zero), mdp.gamma)[0]) > 0.05


def test_shaped_by_the_value_gae_is_a_discounted_sum_of_rewards():
    """With Φ = V the shaped reward is δ, and GAE is Σ_l (γλ)^l r̃_{t+l}."""
    study, lambda_ = NAMED, 0.8
    every, value = study.every, noise(study)
    bonus = study.gamma * every.discount * value[every.next_state] - value[every.state]
    shaped = every._replace(reward=torch.where(every.valid, every.reward + bonus, 0.0)).returns(study.zero)
    to_go = returns.reward_to_go(shaped.reward, shaped.discount, shaped.last, shaped.next_value, study.gamma * lambda_)
    gae = GAE(lambda_=lambda_)(every.returns(value), study.gamma)[0]
    assert_close(gae[every.valid], to_go[every.valid], rtol=0.0, atol=1e-12)
