"""Linear sums of forms of Ψ: by hand, what their critic comes to whatever the weights are, and what is said of them."""

import itertools

import naive
import pytest
import torch
from torch.testing import assert_close

from pgrun.core import tabular
from pgrun.core.advantages import (
    GAE,
    TD,
    LearnedAdvantage,
    NStep,
    Ones,
    Q,
    Returns,
    RewardToGo,
    TotalReturn,
    VTrace,
)
from pgrun.core.mixture import Mixture

GAMMA = 0.9
TIGHT = {"rtol": 0.0, "atol": 1e-10}
TERMS = {
    "td": TD(),
    "nstep": NStep(n=3),
    "gae": GAE(lambda_=0.7),
    "vtrace": VTrace(rho_bar=1.0, c_bar=1.0),
    "reward_to_go": RewardToGo(),
    "total_return": TotalReturn(),
    "ones": Ones(),
    "q": Q(center=False, dueling=False, lambda_=0.8),
    "a": LearnedAdvantage(lambda_=0.4, nodes=7),
}
NONE = dict.fromkeys(TERMS, 0.0)


def mixture(**weights):
    return Mixture(terms=TERMS, weights={**NONE, **weights})


@pytest.fixture
def r():
    return naive.rollout(11)


def test_a_mean_of_two(r):
    def target(t, b):
        return 0.25 * naive.n_step(r, t, b, GAMMA, 1) + 0.75 * naive.n_step(r, t, b, GAMMA, 3)

    mixed = mixture(td=0.25, nstep=0.75)
    assert mixed.wrong() is None
    psi, fitted = mixed(Returns(*r), GAMMA)
    assert_close(psi, naive.table(lambda t, b: target(t, b) - float(r.value[t, b]), psi), **TIGHT)
    assert_close(fitted, naive.table(target, psi), **TIGHT)


@pytest.mark.parametrize("weights", [{"td": 2.0, "nstep": -0.5, "q": 1.5}, {"td": -1.0, "gae": 1.0, "a": -3.0}])
def test_any_weights_beside_a_critic_of_actions(r, weights):
    mixed, given = mixture(**weights), Returns(*r, q=torch.randn_like(r.value))
    assert mixed.wrong() is None
    each = {name: TERMS[name](given, GAMMA) for name in weights}
    psi, target = mixed(given, GAMMA)
    assert_close(psi, sum(w * each[name][0] for name, w in weights.items()), **TIGHT)
    size = sum(map(abs, weights.values()))
    assert_close(target, sum(abs(w) / size * each[name][1] for name, w in weights.items()), **TIGHT)


def test_beside_a_total_return_the_others_get_their_time(r):
    """γ^t stands in the total return already."""
    whole = r._replace(discount=torch.where(r.last, 0.0, 1.0), last=r.last | (torch.arange(11) == 10).unsqueeze(1))
    given = Returns(*whole, q=torch.randn_like(r.value))
    time = naive.table(lambda t, b: GAMMA ** (t - naive.start(whole.last, t, b)), r.value)
    psi, _ = mixture(total_return=0.5, td=-2.0, q=1.0)(given, GAMMA)
    parts = [TERMS[name](given, GAMMA)[0] for name in ("total_return", "td", "q")]
    assert_close(psi, 0.5 * parts[0] - 2.0 * time * parts[1] + time * parts[2], rtol=0.0, atol=1e-6)
    alone, _ = mixture(td=-2.0, q=1.0)(given, GAMMA)
    assert_close(alone, -2.0 * parts[1] + parts[2], **TIGHT)


def test_a_mixture_asks_for_what_its_terms_ask_for():
    def asks(mixed):
        return [mixed.needs_value, mixed.whole_episodes, mixed.discounted, mixed.corrects, mixed.critic, mixed.nodes]

    assert asks(mixture(total_return=1.0)) == [False, True, True, False, "v", 0]
    assert asks(mixture(td=1.0)) == [True, False, False, False, "v", 0]
    assert asks(mixture(vtrace=1.0, reward_to_go=1.0)) == [True, False, False, True, "v", 0]
    assert asks(mixture(td=1.0, q=1.0)) == [False, False, False, False, "q", 16]
    assert asks(mixture(td=1.0, a=-1.0)) == [False, False, False, False, "a", 7]
    assert [mixture(ones=1.0).of_rewards, mixture(ones=1.0, td=1.0).of_rewards] == [False, True]


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"td": 0.0}, "weights are all 0"),
        ({"td": 0.5, "sarsa": 0.5}, "weights.sarsa has no term; there are td, nstep"),
        ({"td": float("inf")}, "weights.td=inf is not finite"),
        ({"td": float("nan")}, "weights.td=nan is not finite"),
        ({"q": 0.5, "a": 0.5}, "q learns Q in one piece and a as V . A.*use algo.advantage.terms.q.dueling=true"),
    ],
)
def test_a_mixture_that_is_none(weights, words):
    import re

    assert re.search(words, mixture(**weights).wrong())


def test_q_and_a_share_the_critic_of_v_and_a():
    terms = {"q": Q(center=True, dueling=True, lambda_=0.5, nodes=3), "a": LearnedAdvantage(lambda_=0.5, nodes=4)}
    mixed = Mixture(terms=terms, weights={"q": 1.0, "a": 1.0})
    assert mixed.wrong() is None
    assert (mixed.critic, mixed.nodes) == ("a", 4)


def test_a_term_with_something_wrong_is_named():
    wrong = Mixture(terms={"nstep": NStep(n=None, window="fixed")}, weights={"nstep": 1.0}).wrong()
    assert "algo.advantage.terms.nstep.window=fixed" in wrong


@pytest.mark.parametrize(
    ("weights", "note"),
    [
        ({"nstep": 0.0, "reward_to_go": 1.0}, "Ψ = 1 reward_to_go: the weights sum to 1"),
        (
            {"td": 0.5, "gae": 0.25, "reward_to_go": 0.5},
            "Ψ = 0.5 td + 0.25 gae + 0.5 reward_to_go: the weights sum to 1.25, which scales the policy's gradient by "
            "1.25 where Ψ is not normalised; biased by the critic's error: td, gae",
        ),
        (
            {"td": 1.0, "reward_to_go": -1.0},
            "Ψ = 1 td - 1 reward_to_go: the weights sum to 0, so the terms' gradients cancel but for their biases; "
            "biased by the critic's error: td",
        ),
        (
            {"total_return": -2.0},
            "Ψ = - 2 total_return: the weights sum to -2, which scales the policy's gradient by -2 where Ψ is not "
            "normalised (J is descended)",
        ),
    ],
)
def test_the_sum_and_the_bias_are_said(weights, note):
    assert mixture(**weights).note == note


# the critic's fixed point


MDP = tabular.random_mdp(2, 2, GAMMA, torch.Generator().manual_seed(4))  # no episode ever ends
PI = torch.tensor([[0.3, 0.7], [0.6, 0.4]], dtype=torch.float64)
STEPS = 3
# every (s_0, a_0, s_1, a_1, …, s_3): a column each
EVERY = torch.tensor(list(itertools.product(range(2), repeat=2 * STEPS + 1))).T
STATE, ACTION = EVERY[0::2], EVERY[1::2]
P = torch.stack([MDP.transition[STATE[t], ACTION[t], STATE[t + 1]] for t in range(STEPS)]).prod(0)
P = P * torch.stack([PI[STATE[t], ACTION[t]] for t in range(1, STEPS)]).prod(0)  # given s_0 and a_0


def fit(mixed, q, *, of_actions):
    """E[target | s_0, a_0] [S, A], or E[target | s_0] in each column, of all rollouts of three steps that are cut."""
    v = (PI * q).sum(-1)
    ones = torch.ones(STEPS, EVERY.shape[1], dtype=torch.float64)
    taken = q[STATE[:-1], ACTION] if of_actions else None
    given = Returns(MDP.reward[STATE[:-1], ACTION], ones, ones < 0, v[STATE[:-1]], v[STATE[1:]], taken)
    target = mixed(given, GAMMA)[1][0]
    found = torch.zeros(4, dtype=torch.float64).index_add(0, 2 * STATE[0] + ACTION[0], P * target).view(2, 2)
    return found if of_actions else (PI * found).sum(-1, keepdim=True).expand(2, 2)


SUMS = [
    {"td": 0.5, "nstep": 0.5},
    {"td": 0.2, "gae": 0.1},  # 0.3
    {"td": 3.0, "nstep": -2.0},  # as weights of targets it would grow without end: 3γ − 2γ³ > 1
    {"td": 1.0, "nstep": -1.0},  # 0
    {"td": -1.0, "vtrace": -2.0, "reward_to_go": 0.5},  # −2.5
    {"ones": -1.0, "gae": 1.0},
]


@pytest.mark.parametrize("weights", SUMS)
def test_the_critic_comes_to_v_whatever_the_weights(weights):
    value = MDP.value(PI).unsqueeze(-1).expand(2, 2)
    assert_close(fit(mixture(**weights), value, of_actions=False), value, **TIGHT)
    found = torch.tensor([[5.0, 5.0], [-7.0, -7.0]], dtype=torch.float64)
    for _ in range(300):
        found = fit(mixture(**weights), found, of_actions=False)
    assert_close(found, value, **TIGHT)


@pytest.mark.parametrize("weights", [*SUMS, {"q": -1.0}, {"q": 0.5, "td": 0.1}, {"a": 1.0, "vtrace": -1.0}])
def test_the_critic_of_actions_comes_to_q_whatever_the_weights(weights):
    q = MDP.q(MDP.value(PI))
    assert_close(fit(mixture(**weights), q, of_actions=True), q, **TIGHT)
    found = torch.tensor([[5.0, -3.0], [-7.0, 4.0]], dtype=torch.float64)
    for _ in range(300):
        found = fit(mixture(**weights), found, of_actions=True)
    assert_close(found, q, **TIGHT)
