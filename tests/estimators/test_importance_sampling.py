"""Learning about π from trajectories of μ, exactly: which weights are unbiased, and what they cost."""

import itertools

import pytest
import torch
from exact import BRIDGE_LOGITS, exact
from torch.testing import assert_close

from pgrun.core import importance, tabular
from pgrun.core.advantages import RewardToGo, TotalReturn, VTrace

DIRECTION = torch.tensor([[0.7, -0.5], [-0.6, 0.8], [0.4, -0.9]], dtype=torch.float64)


class OffPolicy:
    """The trajectories of the bridge as μ weighs them, and π's scores on them."""

    def __init__(self, distance=1.0, steps=4, behaviour=None):
        self.study = exact(tabular.bridge(steps=steps), logits=BRIDGE_LOGITS)
        mdp = self.study.mdp
        mu = mdp.policy(BRIDGE_LOGITS + distance * DIRECTION) if behaviour is None else behaviour[mdp.sees]
        kept = tabular.probabilities(self.study.every, mu) > 0.0  # what μ can bring
        self.study.every = self.study.every.pick(kept.nonzero().squeeze(-1))
        self.study.score = self.study.score[:, kept]
        self.study.p = tabular.probabilities(self.study.every, mu)
        every = self.study.every
        self.log_ratio = tabular.log_probs(every, self.study.pi) - tabular.log_probs(every, mu)

    def psi(self, kind, **changes):
        """γ^t Ψ_t with its weights: reward-to-go, in which `per_decision` weighs each reward by its own past."""
        every, gamma = self.study.every, self.study.gamma
        options = {"self_normalize": False, "clip": None, **changes}
        w = importance.importance_weights(kind, self.log_ratio, every.last, every.valid, **options)
        r = every.returns(self.study.zero)
        if kind == "per_decision":
            return self.study.time * RewardToGo()(r._replace(reward=w * r.reward), gamma)[0]
        return self.study.time * w * RewardToGo()(r, gamma)[0]


@pytest.mark.parametrize("kind", ["trajectory", "per_decision"])
def test_products_of_ratios_are_unbiased(kind):
    for distance in (0.0, 0.5, 2.0):
        off = OffPolicy(distance)
        assert_close(off.study.p.sum(), torch.tensor(1.0, dtype=torch.float64))
        assert off.study.bias(off.psi(kind)) < 1e-12
        if kind == "trajectory":  # with any Ψ
            every = off.study.every
            total = TotalReturn()(every.returns(off.study.zero), off.study.gamma)[0]
            assert off.study.bias(importance.trajectory(off.log_ratio, every.last, every.valid) * total) < 1e-12


@pytest.mark.parametrize("kind", ["trajectory", "per_decision"])
def test_clipped_weights_are_biased(kind):
    assert OffPolicy(2.0).study.bias(OffPolicy(2.0).psi(kind, clip=1.5)) > 0.05


@pytest.mark.parametrize("kind", ["per_step", "none"])
def test_one_ratio_alone_is_biased_the_less_the_closer_the_policies_are(kind):
    bias = [OffPolicy(d).study.bias(OffPolicy(d).psi(kind)) for d in (2.0, 1.0, 0.1, 0.01, 0.0)]
    assert bias[:4] == sorted(bias[:4], reverse=True)
    assert bias[0] > 0.2
    assert bias[4] < 1e-12
    assert bias[3] / bias[2] == pytest.approx(0.1, rel=0.1)  # it vanishes in proportion to the distance


def test_correcting_the_action_is_better_than_correcting_nothing():
    for distance in (0.1, 1.0, 2.0):
        off = OffPolicy(distance)
        assert off.study.bias(off.psi("per_step")) < off.study.bias(off.psi("none"))


def test_where_the_behaviour_has_no_support_nothing_is_unbiased():
    """μ never goes on the far bank."""
    mu = BRIDGE_LOGITS.softmax(-1).clone()
    mu[2] = torch.tensor([1.0, 0.0])
    for kind in ("trajectory", "per_decision", "per_step"):
        off = OffPolicy(behaviour=mu)
        assert_close(off.study.p.sum(), torch.tensor(1.0, dtype=torch.float64))
        assert off.study.bias(off.psi(kind)) > 0.05


def test_the_products_variance_explodes_with_the_horizon_and_one_ratios_does_not():
    lengths = (2, 4, 6, 8)
    runs = [OffPolicy(1.5, steps=t) for t in lengths]

    def relative(kind):
        """The standard deviation of one trajectory's estimate as a share of ∇J, squared."""
        return [float(r.study.variance(r.psi(kind)) / r.study.gradient.square().sum()) for r in runs]

    whole, decision, step = relative("trajectory"), relative("per_decision"), relative("per_step")
    assert whole == sorted(whole)
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(whole))
    assert all(w > d for w, d in zip(whole[1:], decision[1:], strict=True))
    assert all(d > s for d, s in zip(decision[1:], step[1:], strict=True))
    assert whole[-1] / whole[0] > 5.0 * step[-1] / step[0]


def test_the_weights_second_moment_is_a_power_of_the_horizon():
    """Two policies that ignore the state: E_μ[(Π ρ)²] = (Σ_a π²/μ)^T, and E_μ[Π ρ] = 1."""
    pi, mu = torch.tensor([0.6, 0.4], dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64)
    for steps in (1, 3, 6):
        mdp = tabular.random_mdp(2, 2, 0.9, torch.Generator().manual_seed(0)).limited(steps)
        every = tabular.enumerate_trajectories(mdp)
        table = [x.expand(len(mdp.start), 2) for x in (pi, mu)]
        p = tabular.probabilities(every, table[1])
        log_ratio = tabular.log_probs(every, table[0]) - tabular.log_probs(every, table[1])
        w = importance.trajectory(log_ratio, every.last, every.valid)[0]
        assert_close(p @ w, torch.tensor(1.0, dtype=torch.float64))
        assert_close(p @ w.square(), (pi.square() / mu).sum() ** steps)


def test_self_normalised_weights_are_consistent():
    """Over all of μ's trajectories at once, each as often as its probability says, they are the plain ones."""
    off = OffPolicy(1.0, steps=2)
    count = (off.study.p * 4_000).round().long()
    index = torch.arange(len(count)).repeat_interleave(count)
    every, log_ratio = off.study.every.pick(index), off.log_ratio[:, index]
    for kind in ("trajectory", "per_decision"):
        plain, normal = (
            importance.importance_weights(kind, log_ratio, every.last, every.valid, self_normalize=x, clip=None)
            for x in (False, True)
        )
        assert_close(normal, plain, rtol=5e-3, atol=0.0)
        few = slice(0, len(count))  # and of a few, they are not
        a, b = (
            importance.importance_weights(
                kind, off.log_ratio[:, few], off.study.every.last, off.study.every.valid, self_normalize=x, clip=None
            )
            for x in (False, True)
        )
        assert not torch.allclose(a, b, rtol=5e-3)


def v_trace(off, value, rho_bar=None, c_bar=None):
    """Ψ_t and v_t, [T, N] each."""
    returns = off.study.every.returns(value)._replace(log_ratio=off.log_ratio)
    return VTrace(rho_bar=rho_bar, c_bar=c_bar)(returns, off.study.gamma)


def given_state(off, x):
    """E_μ[x_t | s_t] of every state that μ comes to, [S'], and those states."""
    every = off.study.every
    weight = torch.where(every.valid, off.study.p, 0.0)
    mass, total = (
        torch.zeros(len(off.study.value), dtype=torch.float64).index_add(0, every.state.flatten(), y.flatten())
        for y in (weight, weight * x)
    )
    seen = mass > 0.0
    return total[seen] / mass[seen], seen


WRONG = torch.randn(100, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def test_v_trace_without_limits_is_the_unbiased_estimate():
    """Of V^π and of ρ_t A^π with any V; and of ∇J, once the actions before t are weighed, too."""
    off = OffPolicy(1.0)
    every, study = off.study.every, off.study
    psi, target = v_trace(off, WRONG[: len(study.value)])
    found, seen = given_state(off, target)
    assert_close(found, study.value[seen], rtol=0.0, atol=1e-12)
    so_far = importance.per_decision(off.log_ratio, every.last, every.valid)
    assert study.bias(study.time * so_far / off.log_ratio.exp() * psi) < 1e-12
    assert study.bias(study.time * psi) > 0.05  # right about the action, not about how often π comes to s_t


def test_v_trace_cut_at_one_has_the_value_of_a_policy_between_the_two():
    """Espeholt et al. 2018, eq. 3: π_ρ̄ ∝ min(ρ̄ μ, π); any c̄ leaves that fixed point."""
    off = OffPolicy(1.0)
    mdp, pi = off.study.mdp, off.study.pi
    mu = mdp.policy(BRIDGE_LOGITS + DIRECTION)
    between = torch.minimum(mu, pi)
    value = mdp.value(between / between.sum(-1, keepdim=True))
    assert (value - off.study.value).abs().max() > 0.05
    for c_bar in (0.5, 1.0):
        found, seen = given_state(off, v_trace(off, value, 1.0, c_bar)[1])
        assert_close(found, value[seen], rtol=0.0, atol=1e-12)
    assert (given_state(off, v_trace(off, off.study.value, 1.0, 1.0)[1])[0] - off.study.value[seen]).abs().max() > 0.01
