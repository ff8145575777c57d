"""Gradients from another policy's data, against the exact gradient and the plain estimator."""

import numpy as np
import pytest
import torch
from gradient_cases import COMMON, PLAIN, STATES, batch_of, exact, network, random_batch, trajectories
from probes import run
from torch.testing import assert_close

from pgrun.algos.offpolicy_pg import OffPolicyPG
from pgrun.algos.policy_gradient import PolicyGradient
from pgrun.core.advantages import GAE, TD, LearnedAdvantage, Ones, RewardToGo, TotalReturn
from pgrun.core.baselines import Value, Zero
from pgrun.core.importance import v_trace
from pgrun.errors import UserError

KEYS = {"self_normalize": False, "weight_clip": None, "rollout": None, "discount_states": False, "whole_episodes": True}


def offpolicy(weights, advantage=None, baseline=None, **changes):
    kwargs = {**COMMON, **PLAIN, **KEYS, "network": network(), **changes}
    advantage = advantage or RewardToGo()
    return OffPolicyPG(weights=weights, advantage=advantage, baseline=baseline or Zero(), **kwargs)


def mean_gradient(algorithm, discounted):
    """The estimator's mean under another policy μ, of the actor's parameters, and the exact gradient of J; flat."""
    g = torch.Generator().manual_seed(1)
    actor = list(algorithm.model.actor.parameters())
    with torch.no_grad():
        for p in algorithm.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    table = [p.detach().double().requires_grad_() for p in actor]
    truth = torch.autograd.grad(exact(table[0].T + table[1])[0], table)
    mu = torch.randn(STATES, 2, generator=g).double().softmax(-1)
    mean = [torch.zeros_like(t) for t in truth]
    for probability, path in trajectories(mu):
        states, actions = [step[0] for step in path], [step[1] for step in path]
        extras = {"log_prob": mu[states, actions].log().float().unsqueeze(1)}
        if discounted:
            extras["I"] = COMMON["gamma"] ** torch.arange(len(path)).float().unsqueeze(1)
        algorithm.update(batch_of(path)._replace(extras=extras))
        for total, p in zip(mean, actor, strict=True):
            total -= probability * len(path) * p.grad.double()
    return torch.cat([x.flatten() for x in mean]), torch.cat([x.flatten() for x in truth])


UNBIASED = {
    "the whole return by the whole product": ("trajectory", TotalReturn(), Zero(), False),
    "reward-to-go by the whole product": ("trajectory", RewardToGo(), Zero(), True),
    "reward-to-go, decision by decision": ("per_decision", RewardToGo(), Zero(), True),
    "the same minus any V": ("per_decision", RewardToGo(), Value(), True),
    "GAE at λ = 1, decision by decision": ("per_decision", GAE(lambda_=1.0), Value(), True),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased(name):
    weights, advantage, baseline, discounted = UNBIASED[name]
    mean, truth = mean_gradient(offpolicy(weights, advantage, baseline, discount_states=discounted), discounted)
    assert truth.abs().max() > 0.1
    assert_close(mean, truth, rtol=1e-4, atol=1e-5)


BIASED = {
    "one step alone": ("per_step", {}),
    "no weights": ("none", {}),
    "clipped": ("per_decision", {"weight_clip": 1.1}),
    "self-normalised": ("trajectory", {"self_normalize": True}),
}


@pytest.mark.parametrize("name", BIASED)
def test_biased_where_theory_says_so(name):
    weights, changes = BIASED[name]
    mean, truth = mean_gradient(offpolicy(weights, discount_states=True, **changes), True)
    assert (mean - truth).abs().max() > 0.02


def own_batch():
    """Several episodes; what is not valid comes after an episode's end."""
    batch = random_batch()
    last = batch.last.clone()
    last[:-1] |= ~batch.valid[1:]
    return batch._replace(last=last)


@pytest.mark.parametrize("weights", ["trajectory", "per_decision", "per_step"])
@pytest.mark.parametrize("self_normalize", [False, True])
def test_on_its_own_data_it_is_the_plain_policy_gradient(weights, self_normalize):
    choices = {"advantage": GAE(lambda_=0.9), "baseline": Value(), "entropy_coef": 0.03, "network": network(hidden=[8])}
    changes = {"rollout": 6, "discount_states": False, "whole_episodes": False, "normalize": "batch"}
    plain = PolicyGradient(**{**COMMON, **PLAIN, **choices, **changes})
    mine = offpolicy(weights, **{**choices, **changes, "self_normalize": self_normalize, "weight_clip": 2.0})
    mine.load_state_dict(plain.state_dict())
    batch = own_batch()
    log_prob = mine.log_prob(batch).detach()
    one, two = plain.update(batch), mine.update(batch._replace(extras={"log_prob": log_prob}))
    # the critic's target differs: V-trace's is the return, GAE's the λ-return; so compare the actor's parameters
    actor = sum(p.numel() for p in mine.model.actor.parameters())
    assert plain.step.theta.grad[:actor].norm() > 0.05
    assert_close(mine.step.theta.grad[:actor], plain.step.theta.grad[:actor], rtol=1e-4, atol=1e-6)
    assert_close(one["loss/policy"], two["loss/policy"], rtol=1e-4, atol=1e-6)
    assert float(two["policy/effective_samples"]) == pytest.approx(1.0)


def test_the_critic_is_fitted_to_v_trace():
    algorithm = offpolicy("per_step", TD(), Value(), rollout=6, whole_episodes=False)
    batch = random_batch()._replace(extras={"log_prob": torch.full((6, 4), -0.5)})
    log_ratio = algorithm.log_ratio(batch)
    value, next_value = algorithm.model.value(batch), algorithm.model.next_value(batch)
    last = batch.last | ~batch.valid
    want = v_trace(batch.reward, batch.discount, last, value, next_value, log_ratio, COMMON["gamma"]).target
    extras = {"log_ratio": log_ratio, "weight": torch.ones_like(value)}
    assert_close(algorithm.advantages_and_targets(batch._replace(extras=extras), value)[1], want)


def test_ones_without_weights_is_maximum_likelihood():
    algorithm = offpolicy("none", Ones())
    batch = random_batch()
    algorithm.update(batch)
    log_prob = algorithm.model.actor(batch.obs).log_prob(batch.action)
    parameters = list(algorithm.model.parameters())
    want = torch.autograd.grad(-log_prob[batch.valid].mean(), parameters)
    assert_close(algorithm.step.theta.grad, torch.cat([g.flatten() for g in want]))


@pytest.mark.parametrize("weights", ["trajectory", "per_decision", "per_step"])
def test_ones_are_weighed_as_any_other(weights):
    """Σ_t w_t ∇log π(a_t|s_t), whose mean is zero; unweighted it climbs the likelihood of the data."""
    algorithm = offpolicy(weights, Ones())
    batch = own_batch()._replace(extras={"log_prob": torch.rand(6, 4).log()})
    algorithm.update(batch)
    w = algorithm.prepared(batch).extras["weight"]
    assert w[batch.valid].std() > 0.1
    log_prob = algorithm.model.actor(batch.obs).log_prob(batch.action)
    parameters = list(algorithm.model.parameters())
    want = torch.autograd.grad(-(w * log_prob)[batch.valid].mean(), parameters)
    assert_close(algorithm.step.theta.grad, torch.cat([g.flatten() for g in want]))


def test_what_acted_is_recorded():
    algorithm = offpolicy("per_step", discount_states=True)
    obs = torch.eye(STATES)
    action, carry, extras = algorithm.act(obs, algorithm.initial_carry(STATES), True)
    assert_close(extras["log_prob"], algorithm.model.actor(obs).log_prob(action))
    assert_close(carry[0], torch.full((STATES,), COMMON["gamma"]))


def test_data_without_probabilities_can_not_be_weighed():
    batch = random_batch()._replace(extras={"log_prob": torch.full((6, 4), torch.nan)})
    with pytest.raises(UserError, match=r"algo\.weights=none"):
        offpolicy("per_step").update(batch)
    assert torch.isfinite(offpolicy("none").update(batch)["loss/policy"])


@pytest.mark.parametrize(
    ("weights", "advantage", "says"),
    [
        ("per_decision", TotalReturn(), "reward_to_go"),
        ("per_step", LearnedAdvantage(lambda_=1.0), "gae"),
        ("stepwise", RewardToGo(), "choose one of trajectory"),
    ],
)
def test_what_makes_no_sense_is_refused(weights, advantage, says):
    with pytest.raises(UserError, match=says):
        offpolicy(weights, advantage)


def test_cloning_learns_the_demonstrated_map(tmp_path):
    """30 episodes of 20 steps that lean towards where the pole falls, of which a clone makes no more mistakes."""
    g = np.random.default_rng(0)
    obs = g.normal(size=(600, 4))
    actions = (obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(int)
    start = np.arange(600) % 20 == 0
    end = np.roll(start, -1)
    np.savez(
        tmp_path / "demos.npz",
        observations=obs,
        actions=actions,
        rewards=np.ones(600),
        terminations=end,
        truncations=np.zeros(600, dtype=bool),
        episode_starts=start,
    )
    parts, _ = run(
        *("algo=behaviour_cloning", "env=cartpole", f"demonstrations={tmp_path}/demos.npz", "optimizer.lr=0.01"),
        *("total_steps=20000", "network.hidden=[16]"),
    )
    found = parts.algorithm.act(torch.tensor(obs, dtype=torch.float32), (), False)[0].numpy()
    assert (found == actions).mean() > 0.97
