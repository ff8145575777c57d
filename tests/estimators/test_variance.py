"""Variances, exact: what baselines do to them, what is a theorem, and counterexamples of what is none."""

from dataclasses import replace

import pytest
import torch
from exact import exact, named, one_step, random_studies
from torch.testing import assert_close

from pgrun.core import tabular
from pgrun.core.advantages import GAE, TD, RewardToGo, TotalReturn
from pgrun.core.tabular import MDP, random_mdp

RANDOM = random_studies(12)
NAMED = named()


def weights(study):
    """γ^t Ψ_t of the four estimators whose variances the textbooks order, each unbiased."""
    r = study.every.returns(study.zero)
    to_go = RewardToGo()(r, study.gamma)[0]
    return {
        "total return": TotalReturn()(r, study.gamma)[0],
        "reward-to-go": study.time * to_go,
        "average baseline": study.time * (to_go - study.per_step_mean(to_go)),
        "value baseline": study.time * (to_go - study.value[study.every.state]),
    }


def variances(study):
    for psi in weights(study).values():
        assert study.bias(psi) < 1e-12
    return {name: study.variance(psi) for name, psi in weights(study).items()}


def test_on_the_named_mdp_each_refinement_lowers_the_variance():
    total, to_go, average, value = variances(NAMED).values()
    assert total > 1.5 * to_go
    assert to_go > 1.2 * average
    assert average > 1.2 * value


def paid_back():
    """Make an MDP whose second step takes back (nearly) what the first action pays, whatever it does."""
    transition = torch.zeros(3, 2, 3, dtype=torch.float64)
    transition[0, 0, 1] = transition[0, 1, 2] = 1.0
    reward = torch.tensor([[2.0, 1.0], [-2.0, -2.0], [-1.1, -1.1]], dtype=torch.float64)
    return MDP(transition, reward, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), 1.0, torch.tensor([0, 1, 1]))


def test_no_theorem_that_reward_to_go_has_less_variance_than_the_total_return():
    """Here the total is nearly always the same, and near 0."""
    found = variances(exact(paid_back(), 1))
    assert found["reward-to-go"] > 100.0 * found["total return"]


LOPSIDED = torch.tensor([[2.0, -2.0]], dtype=torch.float64)


def test_no_theorem_that_the_average_is_better_than_no_baseline():
    """The usual action pays 1 and has a small score; the rare one pays 0 and has a large one, which 0 lets vanish."""
    found = variances(exact(one_step([1.0], [[1.0, 0.0]]), logits=LOPSIDED))
    assert found["average baseline"] > 5.0 * found["reward-to-go"]


def test_no_theorem_that_the_value_is_better_than_the_average():
    """The average, lowered by a state where the score is tiny, comes closer to the best baseline of the other state."""
    logits = torch.cat([LOPSIDED, torch.tensor([[5.0, -5.0]], dtype=torch.float64)])
    found = variances(exact(one_step([0.6, 0.4], [[1.0, 0.0], [-1.0, -1.0]]), logits=logits))
    assert found["value baseline"] > 2.0 * found["average baseline"]


def score_sums(study):
    """g = Σ_t g_t and the return R of each trajectory, [N, P] and [N, 1]."""
    total = TotalReturn()(study.every.returns(study.zero), study.gamma)[0][0]
    return study.score.sum(0), total.unsqueeze(-1)


def trace(study, estimate):
    return float(tabular.moments(estimate, study.p)[1].trace())


def best_constants(study, estimate, g):
    """b* = E[ĝ·g] / E[g·g], and the same for each coordinate [P]."""
    scalar = (study.p @ (estimate * g)).sum() / (study.p @ g.square()).sum()
    return scalar, (study.p @ (estimate * g)) / (study.p @ g.square())


@pytest.mark.parametrize("form", ["total return", "reward-to-go with γ^t"])
def test_the_optimal_constant_has_the_least_variance_and_one_per_parameter_less(form):
    for study in [NAMED, *RANDOM]:
        if form == "total return":
            g, total = score_sums(study)
            raw = g * total
            assert_close(  # the familiar form
                best_constants(study, raw, g)[0],
                (study.p @ (g.square().sum(-1) * total[:, 0])) / (study.p @ g.square().sum(-1)),
            )
        else:
            g = study.estimates(study.time)
            raw = study.estimates(weights(study)["reward-to-go"])
        best, each = best_constants(study, raw, g)
        least = trace(study, raw - best * g)
        for b in torch.linspace(-4.0, 4.0, 33, dtype=torch.float64):
            assert trace(study, raw - (best + b) * g) >= least - 1e-12
            if b.abs() > 0.1:
                assert trace(study, raw - (best + b) * g) > least + 1e-6
        assert_close(study.p @ (raw - each * g), study.gradient, rtol=0.0, atol=1e-12)
        assert trace(study, raw - each * g) <= least + 1e-12
        average = study.p @ score_sums(study)[1]
        assert least < trace(study, raw - average * g) - 1e-6  # the average return is not it
    strict = [
        trace(s, r - c[1] * g) < trace(s, r - c[0] * g) - 1e-3
        for s in RANDOM
        for g, t in [score_sums(s)]
        for r in [g * t]
        for c in [best_constants(s, r, g)]
    ]
    assert sum(strict) > len(RANDOM) // 2


def test_the_value_is_not_the_least_variance_state_baseline():
    """b(s) = E[‖g‖² Q | s] / E[‖g‖² | s], Greensmith et al. 2004, has less; steps drawn as s ~ ρ, a ~ π."""
    gains = []
    for study in [NAMED, *RANDOM]:
        mdp, pi = study.mdp, study.pi
        probability = (mdp.visits(pi) / mdp.visits(pi).sum()).unsqueeze(-1) * pi  # [S, A]
        eye = torch.eye(pi.shape[1], dtype=torch.float64)
        norm = (eye - pi.unsqueeze(1)).square().sum(-1)  # ‖g‖² of (s, a): the table's row of s

        def second_moment(b, study=study, probability=probability, norm=norm):
            """E[‖g (Q − b)‖²]: the variance up to what is the same for all state baselines."""
            return float((probability * norm * (study.q - b.unsqueeze(-1)).square()).sum())

        best = (pi * norm * study.q).sum(-1) / (pi * norm).sum(-1)
        gains.append(1.0 - second_moment(best) / second_moment(study.value))
        g = torch.randn(10, len(best), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert all(second_moment(best) < second_moment(best + x) for x in g)
    assert min(gains) >= 0.0
    assert sum(x > 0.05 for x in gains) > len(gains) // 2


def test_the_better_state_baseline_in_whole_trajectories():
    """The same, where an episode is one step: the variance of the estimator itself."""
    study = exact(
        one_step([0.5, 0.5], [[1.0, 0.0], [2.0, -1.0]]),
        logits=torch.tensor([[2.0, -2.0], [-1.0, 1.0]], dtype=torch.float64),
    )
    norm = (torch.eye(2, dtype=torch.float64) - study.pi.unsqueeze(1)).square().sum(-1)
    best = (study.pi * norm * study.q).sum(-1) / (study.pi * norm).sum(-1)
    r = study.every.returns(best)
    assert study.bias(RewardToGo()(r, 1.0)[0]) < 1e-12
    assert study.variance(RewardToGo()(r, 1.0)[0]) < 0.5 * variances(study)["value baseline"]


def test_a_constant_added_to_all_rewards_changes_the_variance_and_not_the_gradient():
    """Where all episodes are of one length."""
    for seed in range(3):
        mdp = random_mdp(2, 2, 0.9, torch.Generator().manual_seed(seed)).limited(3)
        plain, more = exact(mdp, seed), exact(mdp.paying(mdp.reward + 5.0), seed)
        assert_close(more.gradient, plain.gradient, rtol=0.0, atol=1e-12)
        for name in ("total return", "reward-to-go"):
            assert_close(more.mean(weights(more)[name]), plain.gradient, rtol=0.0, atol=1e-12)
            assert more.variance(weights(more)[name]) > 2.0 * plain.variance(weights(plain)[name])
        for name in ("average baseline", "value baseline"):  # which take it out again
            assert_close(more.variance(weights(more)[name]), plain.variance(weights(plain)[name]))
    ending = NAMED.mdp  # but where longer episodes are paid more, it is another task
    assert (ending.paying(ending.reward + 5.0).gradient(NAMED.logits) - NAMED.gradient).norm() > 0.1


def test_rewards_times_c_make_the_variance_c_squared():
    c = 3.0
    scaled = exact(NAMED.mdp.paying(c * NAMED.mdp.reward), logits=NAMED.logits)
    assert_close(scaled.gradient, c * NAMED.gradient)
    for name, psi in weights(scaled).items():
        assert scaled.variance(psi) == pytest.approx(c**2 * NAMED.variance(weights(NAMED)[name]))


def test_gae_trades_bias_for_variance():
    """With the true V, less λ is less variance on the named MDP; with a wrong one the bias is its price."""
    lambdas = (0.0, 0.3, 0.6, 0.9, 1.0)
    r = NAMED.every.returns(NAMED.value)
    found = [NAMED.variance(NAMED.time * GAE(lambda_=x)(r, NAMED.gamma)[0]) for x in lambdas]
    assert found == sorted(found)
    assert found[0] < 0.7 * found[-1]
    assert_close(found[-1], variances(NAMED)["value baseline"])
    assert_close(found[0], NAMED.variance(NAMED.time * TD()(r, NAMED.gamma)[0]))


def test_the_variance_of_a_batch_falls_with_its_size():
    """Var[mean of N] = Var / N, by all batches of two of a smaller MDP."""
    study = exact(random_mdp(2, 2, 0.8, torch.Generator().manual_seed(2), ends=0.2).limited(2))
    estimate = study.estimates(weights(study)["reward-to-go"])
    n = len(study.p)
    i, j = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    pair = tabular.moments((estimate[i] + estimate[j]) / 2.0, study.p[i] * study.p[j])[1]
    assert_close(pair, tabular.moments(estimate, study.p)[1] / 2.0)


def test_a_longer_horizon_makes_the_variance_grow():
    found = [variances(replace(named_at(steps)))["total return"] for steps in (2, 3, 4, 5, 6)]
    assert found == sorted(found)
    assert found[-1] > 5.0 * found[0]


def named_at(steps):
    return exact(tabular.bridge(steps=steps), logits=NAMED.logits)
