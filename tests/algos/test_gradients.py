"""Gradients against the truth: every trajectory of a small MDP weighed by its probability, and formulas by hand."""

import functools

import gymnasium as gym
import numpy as np
import pytest
import torch
from gradient_cases import COMMON, GAMMA, PLAIN, STATES, batch_of, exact, network, random_batch, trajectories
from torch import distributions as reference
from torch.testing import assert_close

from pgrun.algos.policy_gradient import PolicyGradient
from pgrun.algos.ppo import PPO
from pgrun.algos.sac import SAC
from pgrun.core.advantages import GAE, TD, NStep, RewardToGo, TotalReturn
from pgrun.core.baselines import Value, Zero
from pgrun.data.types import Transition
from pgrun.optim.rules import SGD, Adam


def policy_gradient(advantage, baseline, **changes):
    """A table of logits: no hidden layer, and observations that say which state it is."""
    kwargs = {"rollout": None, "discount_states": False, "whole_episodes": True, **PLAIN, **changes}
    return PolicyGradient(**COMMON, network=network(), advantage=advantage, baseline=baseline, **kwargs)


def compare(algorithm, values=None):
    """The estimator's mean gradient and the exact one, of every parameter of the actor; flat."""
    g = torch.Generator().manual_seed(1)
    actor = list(algorithm.model.actor.parameters())
    weight, bias = actor  # [A, S], [A]
    with torch.no_grad():
        for p in algorithm.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    table = [p.detach().double().requires_grad_() for p in actor]
    j, v = exact(table[0].T + table[1])
    truth = torch.autograd.grad(j, table)
    if values is not None:  # the critic knows V, or is off
        value_weight, value_bias = algorithm.model.critic.head.parameters()
        with torch.no_grad():
            value_weight.copy_((v.detach() + values).unsqueeze(0))
            value_bias.zero_()
    pi = (weight.T + bias).detach().double().softmax(-1)
    mean, mass = [torch.zeros_like(t) for t in truth], 0.0
    for probability, path in trajectories(pi):
        algorithm.update(batch_of(path))
        for total, p in zip(mean, actor, strict=True):
            total -= probability * len(path) * p.grad.double()  # the loss is a mean over steps, and J is ascended
        mass += probability
    assert mass == pytest.approx(1.0)
    return torch.cat([x.flatten() for x in mean]), torch.cat([x.flatten() for x in truth])


NO_ERROR, OFF = torch.zeros(STATES), torch.tensor([2.0, -3.0, 1.0, 0.5, -2.0])
UNBIASED = {
    "the total return": (TotalReturn(), Zero(), False, None),
    "the total return minus any V": (TotalReturn(), Value(), False, OFF),
    "reward-to-go with γ^t": (RewardToGo(), Zero(), True, None),
    "reward-to-go minus any V with γ^t": (RewardToGo(), Value(), True, OFF),
    "n-step to the end with γ^t": (NStep(n=None), Value(), True, OFF),
    "GAE at λ = 1 with any V": (GAE(lambda_=1.0), Value(), True, OFF),
    "GAE with the true V": (GAE(lambda_=0.6), Value(), True, NO_ERROR),
    "TD with the true V": (TD(), Value(), True, NO_ERROR),
    "two steps with the true V": (NStep(n=2), Value(), True, NO_ERROR),
}
BIASED = {
    "reward-to-go without γ^t": (RewardToGo(), Zero(), False, None),
    "TD with a wrong V": (TD(), Value(), True, OFF),
    "GAE with a wrong V": (GAE(lambda_=0.6), Value(), True, OFF),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_the_estimator_is_unbiased(name):
    advantage, baseline, discount_states, values = UNBIASED[name]
    mean, truth = compare(policy_gradient(advantage, baseline, discount_states=discount_states), values)
    assert truth.abs().max() > 0.1
    assert_close(mean, truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BIASED)
def test_the_estimator_is_biased_where_theory_says_so(name):
    advantage, baseline, discount_states, values = BIASED[name]
    mean, truth = compare(policy_gradient(advantage, baseline, discount_states=discount_states), values)
    assert (mean - truth).abs().max() > 0.02


@pytest.mark.parametrize("normalize", [False, True])
def test_ppos_first_step_is_the_policy_gradients(normalize):
    """At π = π_old the surrogate's gradient is the estimator's; value and entropy terms are the same."""
    common = {
        **COMMON,
        "network": network(hidden=[8]),
        "advantage": GAE(lambda_=0.9),
        "baseline": Value(),
        "entropy_coef": 0.03,
    }
    plain = {**PLAIN, "normalize": "batch" if normalize else "none"}
    pg = PolicyGradient(**common, **plain, rollout=6, discount_states=False, whole_episodes=False)
    ppo = PPO(
        **common,
        normalize_advantage=normalize,
        rollout=6,
        whole_episodes=False,
        epochs=1,
        minibatch=24,
        clip_range=0.2,
        clip_schedule="constant",
        reference=None,
        reference_coef=0.0,
        kl_estimator="k3",
        kl_in="loss",
    )
    ppo.load_state_dict(pg.state_dict())
    one, two = pg.update(random_batch()), ppo.update(random_batch())
    assert pg.step.theta.grad.norm() > 0.05
    assert_close(ppo.step.theta.grad, pg.step.theta.grad, rtol=1e-4, atol=1e-6)
    for key in ("loss/value", "policy/entropy", "value/explained_variance", "gradient/norm"):
        assert_close(one[key], two[key], rtol=1e-4, atol=1e-6)
    assert two["policy/kl"].abs() < 1e-6
    assert two["policy/clip_fraction"] == 0.0


def test_rows_that_are_not_valid_are_not_learnt_from():
    batch = random_batch()
    spoilt = batch._replace(action=torch.where(batch.valid, batch.action, 1 - batch.action))
    algorithm = policy_gradient(TD(), Value())
    algorithm.update(batch)
    grad = algorithm.step.theta.grad.clone()
    algorithm.update(spoilt)
    assert torch.equal(algorithm.step.theta.grad, grad)


def sac(**changes):
    kwargs = {
        "obs_space": gym.spaces.Box(-1.0, 1.0, (3,), np.float32),
        "action_space": gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
        "network": network(hidden=[16], init_gain=0.0),
        "optimizer": functools.partial(SGD, lr=0.1, schedule="constant", momentum=0.0),
        "rollout": 1,
        "tau": 0.25,
        "init_temperature": 0.3,
        "target_entropy": None,
        "max_grad_norm": None,
    }
    return SAC(**{**kwargs, "device": "cpu", "compile": False, "gamma": GAMMA, **changes})


def sac_batch(m=40):
    obs, next_obs = torch.randn(2, m, 3)
    yes = torch.ones(m, dtype=torch.bool)
    discount = (torch.rand(m) < 0.7).float()
    return Transition(obs, torch.rand(m, 2) * 2.0 - 1.0, torch.randn(m), discount, next_obs, discount == 0, yes, {})


def q_by_hand(q, obs, action):
    """Each Q function as an MLP of its own, [2, M]."""
    every = []
    for i in range(2):
        x = torch.cat([obs, action], -1)
        for depth, (weight, bias) in enumerate(zip(q.weights, q.biases, strict=True)):
            x = x @ weight[i] + bias[i]
            x = x if depth == len(q.weights) - 1 else x.tanh()
        every.append(x.squeeze(-1))
    return torch.stack(every)


def sample_by_hand(actor, obs, noise):
    """a = tanh(μ + σε) and log π(a), from torch's distributions."""
    base = actor(obs).base
    pi = reference.TransformedDistribution(
        reference.Normal(base.mean, base.log_std.exp()), [reference.TanhTransform(cache_size=1)]
    )
    action = (base.mean + base.log_std.exp() * noise).tanh()
    return action, pi.log_prob(action).sum(-1)


def test_sacs_target_by_hand():
    """r + γ (min Q̄(s′, a′) − α log π(a′|s′)) where the MDP went on, else r."""
    algorithm, batch, noise = sac(), sac_batch(), torch.randn(40, 2)
    with torch.no_grad():
        for p in algorithm.q_target.parameters():  # so that Q̄ is not Q
            p.add_(0.1)
        action, log_prob = sample_by_hand(algorithm.actor, batch.next_obs, noise)
        q = q_by_hand(algorithm.q_target, batch.next_obs, action)
        soft = torch.minimum(q[0], q[1]) - 0.3 * log_prob
        expected = torch.where(batch.discount == 0, batch.reward, batch.reward + GAMMA * soft)
        assert_close(algorithm.target(batch, noise), expected, rtol=1e-4, atol=1e-4)


def test_sacs_losses_by_hand():
    algorithm, batch, noise = sac(), sac_batch(), torch.randn(40, 2)
    y = torch.randn(40)
    q = q_by_hand(algorithm.q, batch.obs, batch.action)
    critic = ((q[0] - y) ** 2).mean() / 2 + ((q[1] - y) ** 2).mean() / 2
    assert_close(algorithm.critic_loss(batch.obs, batch.action, y, None)[0], critic, rtol=1e-4, atol=1e-5)
    action, log_prob = sample_by_hand(algorithm.actor, batch.obs, noise)
    actor = (0.3 * log_prob - q_by_hand(algorithm.q, batch.obs, action).min(0).values).mean()
    assert_close(algorithm.actor_loss(batch.obs, noise, torch.tensor(0.3))[0], actor, rtol=1e-4, atol=1e-5)


def test_sac_mixes_its_target_network():
    algorithm, batch = sac(), sac_batch()
    before = [p.clone() for p in algorithm.q_target.parameters()]
    algorithm.update(batch)
    for old, online, target in zip(before, algorithm.q.parameters(), algorithm.q_target.parameters(), strict=True):
        assert not torch.equal(old, online)
        assert_close(target, 0.25 * online.detach() + 0.75 * old)


def test_sacs_steps_change_their_own_parameters_alone():
    algorithm, batch = sac(), sac_batch()
    groups = {"q": algorithm.q, "actor": algorithm.actor}

    def changed(step):
        before = {name: [p.clone() for p in g.parameters()] for name, g in groups.items()}
        alpha = algorithm.log_alpha.item()
        step()
        names = {
            name
            for name, g in groups.items()
            if not all(torch.equal(p, q) for p, q in zip(before[name], g.parameters(), strict=True))
        }
        return names | ({"alpha"} if algorithm.log_alpha.item() != alpha else set())

    assert changed(lambda: algorithm.critic_step(batch, torch.zeros_like(batch.action))) == {"q"}
    assert changed(lambda: algorithm.actor_step(batch.obs, batch.action, torch.tensor(0.3))) == {"actor"}
    assert changed(lambda: algorithm.temperature_step(torch.tensor(5.0))) == {"alpha"}
    assert changed(lambda: algorithm.temperature_step(torch.tensor(2.0))) == set()  # an entropy of −2 is the target


@pytest.mark.parametrize("target", [-8.0, 8.0])
def test_the_temperatures_gradient_is_the_entropy_minus_its_target(target):
    algorithm = sac(target_entropy=target)
    before = algorithm.log_alpha.item()
    metrics = algorithm.update(sac_batch())
    assert_close(algorithm.log_alpha.grad, metrics["policy/entropy"] - target)
    # too little entropy raises the temperature, too much lowers it
    assert (algorithm.log_alpha.item() > before) == (metrics["policy/entropy"].item() < target)
    assert metrics["policy/temperature"].item() == pytest.approx(0.3)


def test_the_default_target_entropy_is_minus_the_number_of_action_coordinates():
    assert sac().target_entropy == -2.0
    assert sac(target_entropy=-0.5).target_entropy == -0.5


@pytest.mark.slow  # a shorter one of SAC for discrete actions is not
@pytest.mark.parametrize("target", [-1.5, 0.3])
def test_the_temperature_drives_the_entropy_to_its_target(target):
    """One step, paid −4 (a − ½)²: without a temperature the entropy would fall for ever."""
    space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    adam = functools.partial(
        Adam, lr=0.005, schedule="constant", betas=(0.9, 0.999), eps=1e-5, weight_decay=0.0, decoupled=False
    )
    algorithm = sac(
        obs_space=space,
        action_space=space,
        network=network(hidden=[32, 32], init_gain=0.0),
        optimizer=adam,
        target_entropy=target,
    )
    obs, action, yes = torch.zeros(256, 1), torch.linspace(-1.0, 1.0, 256).unsqueeze(1), torch.ones(256) > 0
    reward = -4.0 * (action.squeeze(1) - 0.5) ** 2
    batch = Transition(obs, action, reward, torch.zeros(256), obs, yes, yes, {})
    entropy = torch.stack([algorithm.update(batch)["policy/entropy"] for _ in range(900)])[-200:].mean()
    assert entropy.item() == pytest.approx(target, abs=0.15)
