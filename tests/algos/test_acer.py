"""ACER against its listings, step by step in plain loops."""

import functools

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal, TanhTransform, TransformedDistribution, kl_divergence
from torch.testing import assert_close

from pgrun.algos.acer import ACER
from pgrun.data.types import Transition
from pgrun.nn import MLP
from pgrun.optim.rules import SGD

GAMMA, ACTIONS, SIZE, DIM = 0.9, 3, 4, 2
DISCRETE = gym.spaces.Discrete(ACTIONS)
BOX = gym.spaces.Box(-1.0, 1.0, (DIM,), np.float32)


def acer(space=DISCRETE, lr=0.0, **changes):
    network = MLP(
        hidden=[8],
        activation="tanh",
        init_gain=1.0,
        head_gain=1.0,
        shared=changes.pop("shared", False),
        log_std_init=-0.3,
        normalize_obs=changes.pop("normalize_obs", False),
        std=changes.pop("std", "global"),
        squash=changes.pop("squash", False),
    )
    kwargs = {
        "obs_space": gym.spaces.Box(-1.0, 1.0, (SIZE,), np.float32),
        "action_space": space,
        "network": network,
        "optimizer": functools.partial(SGD, lr=lr, schedule="constant", momentum=0.0),
        "device": "cpu",
        "compile": False,
        "gamma": GAMMA,
        "rollout": 6,
        "truncation": 1.2,
        "trust_region": 0.05,
        "average_decay": 0.75,
        "draws": 4,
        "entropy_coef": 0.0,
        "value_coef": 0.5,
        "max_grad_norm": None,
    }
    algorithm = ACER(**{**kwargs, **changes})
    with torch.no_grad():
        for p in algorithm.average.parameters():  # so that θ_a is not θ
            p.add_(0.3 * torch.randn_like(p))
    return algorithm


def batch_for(algorithm, t=6, b=3):
    """Steps of another policy μ, with ends of both kinds and a filler row after one of them."""
    obs = torch.randn(t + 1, b, SIZE)
    last = torch.zeros(t, b, dtype=torch.bool)
    discount, valid = torch.ones(t, b), torch.ones(t, b, dtype=torch.bool)
    last[2, 0] = last[3, 1] = True
    discount[2, 0] = 0.0
    valid[3, 0] = False
    discrete = isinstance(algorithm.action_space, gym.spaces.Discrete)
    params = torch.randn(t, b, ACTIONS) if discrete else torch.cat(torch.randn(2, t, b, DIM).mul(0.5).unbind(), -1)
    action = torch.randint(ACTIONS, (t, b)) if discrete else torch.randn(t, b, DIM)
    next_obs = obs[1:].clone()
    next_obs[last] = torch.randn(int(last.sum()), SIZE)
    return Transition(obs[:-1], action, torch.randn(t, b), discount, next_obs, last, valid, {"pi": params})


def softmax(logits):
    return Categorical(logits=logits)


def columns_of(batch):
    for b in range(batch.reward.shape[1]):
        yield Transition(*(x[:, b] for x in batch[:-1]), {key: x[:, b] for key, x in batch.extras.items()})


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def listing_2(algorithm, batch):
    """Minus the sum of dθ and value_coef dθ_v over the rollout, from the end to the start; over valid rows."""
    model, c, delta = algorithm.model, algorithm.c, algorithm.delta
    total = [torch.zeros_like(p) for p in model.parameters()]

    def pi_and_q(obs):
        return softmax(model.actor(obs).logits), model.q.head(model.encoder(obs))

    for one in columns_of(batch):
        q_ret = None
        for i in reversed(range(len(one.reward))):
            pi, q = pi_and_q(one.obs[i])
            a, q_of, v = one.action[i], q.detach(), (pi.probs * q).sum().detach()
            if one.last[i] or q_ret is None:
                after, q_after = pi_and_q(one.next_obs[i])
                q_ret = one.discount[i] * (after.probs * q_after).sum().detach()
            q_ret = one.reward[i] + GAMMA * q_ret
            rho = (pi.probs / softmax(one.extras["pi"][i]).probs).detach()
            phi = pi.probs.detach()  # each probability a number of its own: ∂ log f(a|φ)/∂φ_a = 1/φ_a
            g = torch.zeros(ACTIONS)
            g[a] += rho[a].clamp(max=c) * (q_ret - v) / phi[a]
            for k in range(ACTIONS):
                g[k] += max(0.0, 1.0 - c / float(rho[k])) * (q_of[k] - v)  # f(a|φ) ∂ log f(a|φ)/∂φ_a = 1
            average = softmax(algorithm.average(one.obs[i]).logits).probs.detach()
            k = -average / phi  # ∇_φ Σ_a f(a|φ_a) log (f(a|φ_a) / f(a|φ))
            z = g - max(0.0, float((k @ g - delta) / (k @ k))) * k
            probs = softmax(model.actor(one.obs[i]).logits).probs
            loss = -(z * probs).sum() + 0.5 * algorithm.value_coef * (q_ret - q[a]).square()
            if one.valid[i]:
                for t, grad in zip(
                    total, torch.autograd.grad(loss, list(model.parameters()), allow_unused=True), strict=True
                ):
                    t += 0 if grad is None else grad
            q_ret = rho[a].clamp(max=1.0) * (q_ret - q_of[a]) + v
    return flat(total) / batch.valid.sum()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("delta", [0.05, 1e6])
def test_discrete_actions_by_the_listing(delta, shared):
    algorithm = acer(trust_region=delta, shared=shared)
    batch = batch_for(algorithm)
    want = listing_2(algorithm, batch)  # before θ_a moves
    metrics = algorithm.update(batch)
    assert (float(metrics["policy/projected"]) > 0.1) == (delta < 1)
    assert_close(algorithm.step.theta.grad, want, rtol=1e-4, atol=1e-5)


def listing_3(algorithm, batch, noise, squash):
    """The same for continuous actions; noise [n + 1, T, B, D]: of u_1 … u_n, and of a′."""
    model, c, delta = algorithm.model, algorithm.c, algorithm.delta
    total = [torch.zeros_like(p) for p in model.parameters()]

    def pi_of(params):
        mean, log_std = params.chunk(2, -1)
        normal = Normal(mean, log_std.exp())
        return TransformedDistribution(normal, TanhTransform()) if squash else normal

    def dueling(obs, actions):
        """V(s), and Q̃ of the first of the actions, the others being the u."""
        features = model.encoder(obs)
        v = model.q.v(features)[0]
        a = [model.q.a(torch.tanh(model.q.of_state(features) + model.q.of_action(u)))[0] for u in actions]
        return v, [v + x - sum(a[2:]) / len(a[2:]) for x in a[:2]]

    for b, one in enumerate(columns_of(batch)):
        q_ret = q_opc = None
        for i in reversed(range(len(one.reward))):
            params = model.actor(one.obs[i]).params()
            pi, mu = pi_of(params.detach()), pi_of(one.extras["pi"][i])
            base = pi.base_dist if squash else pi
            a, drawn = one.action[i], base.mean + base.stddev * noise[:, i, b]
            drawn = drawn.tanh() if squash else drawn
            prime = drawn[-1]
            v, (q, q_prime) = dueling(one.obs[i], [a, prime, *drawn[:-1]])
            if one.last[i] or q_ret is None:
                q_ret = q_opc = one.discount[i] * model.q.v(model.encoder(one.next_obs[i]))[0].detach()
            q_ret, q_opc = one.reward[i] + GAMMA * q_ret, one.reward[i] + GAMMA * q_opc
            rho = (pi.log_prob(a) - mu.log_prob(a)).sum().exp()
            rho_prime = (pi.log_prob(prime) - mu.log_prob(prime)).sum().exp()
            phi = params.detach().requires_grad_()
            f = pi_of(phi)
            inside = rho.clamp(max=c) * (q_opc - v.detach()) * f.log_prob(a).sum()
            inside = inside + max(0.0, 1.0 - c / float(rho_prime)) * (q_prime - v).detach() * f.log_prob(prime).sum()
            (g,) = torch.autograd.grad(inside, phi)
            average = pi_of(algorithm.average(one.obs[i]).params())
            (k,) = torch.autograd.grad(kl_divergence(average, pi_of(phi)).sum(), phi)
            z = g - max(0.0, float((k @ g - delta) / (k @ k))) * k
            error = (q_ret - q).detach()
            critic = -error * q - rho.clamp(max=1.0) * error * v
            loss = -(z * params).sum() + algorithm.value_coef * critic
            if one.valid[i]:
                for t, grad in zip(total, torch.autograd.grad(loss, list(model.parameters())), strict=True):
                    t += grad
            q_ret = (rho ** (1.0 / DIM)).clamp(max=1.0) * error + v.detach()
            q_opc = q_opc - q.detach() + v.detach()
    return flat(total) / batch.valid.sum()


@pytest.mark.parametrize(
    ("delta", "std", "squash"),
    [
        (0.05, "global", False),
        (1e6, "global", False),
        (0.05, "state", False),
        (0.05, "global", True),
        (1.0, "state", True),
    ],
)
def test_continuous_actions_by_the_listing(delta, std, squash):
    algorithm = acer(BOX, trust_region=delta, std=std, squash=squash)
    batch = batch_for(algorithm)
    batch = batch._replace(action=batch.action.tanh()) if squash else batch
    torch.manual_seed(5)
    noise = torch.randn(5, *batch.action.shape)
    want = listing_3(algorithm, batch, noise, squash)
    torch.manual_seed(5)
    algorithm.update(batch)
    assert_close(algorithm.step.theta.grad, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("c", [0.3, 1.0, 5.0])
def test_truncation_is_made_up_for_by_the_bias_correction(c):
    """One step from one state that pays r(a), and Q = r: the mean over a ~ μ is the policy gradient, whatever c is."""
    algorithm = acer(truncation=c, trust_region=1e6)
    reward, mu = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.7, 0.2, 0.1])
    with torch.no_grad():
        algorithm.model.q.head.weight.zero_()
        algorithm.model.q.head.bias.copy_(reward)
    obs = torch.randn(1, 1, SIZE).expand(1, ACTIONS, SIZE)
    yes = torch.ones(1, ACTIONS, dtype=torch.bool)
    action = torch.arange(ACTIONS).unsqueeze(0)
    extras = {"pi": mu.log().expand(1, ACTIONS, ACTIONS)}
    batch = Transition(obs, action, reward.unsqueeze(0), torch.zeros(1, ACTIONS), obs, yes, yes, extras)
    estimated, _ = algorithm.estimate(batch)
    p = algorithm.model.actor(obs[0, 0]).logits.softmax(-1).detach()
    z = (mu.unsqueeze(-1) * estimated.extras["z"][0]).sum(0)  # in φ, so in the logits p (z − pᵀz)
    assert_close(p * (z - p @ z), p * (reward - p @ reward))


def test_the_entropys_gradient_is_inside_the_trust_region():
    algorithm = acer(entropy_coef=0.2, trust_region=1e6)
    batch = batch_for(algorithm)
    with_bonus = algorithm.estimate(batch)[0].extras["z"]
    algorithm.entropy_coef = 0.0
    without = algorithm.estimate(batch)[0].extras["z"]
    phi = softmax(algorithm.model.actor(batch.obs).logits).probs.detach()
    assert_close(with_bonus - without, -0.2 * (phi.log() + 1.0))  # of −Σ φ log φ


@pytest.mark.parametrize("space", [DISCRETE, BOX])
@pytest.mark.parametrize("shared", [False, True])
def test_the_average_policy_follows_the_actor(space, shared):
    algorithm = acer(space, lr=0.1, shared=shared, normalize_obs=True)
    before = [p.clone() for p in algorithm.average.parameters()]
    algorithm.update(batch_for(algorithm))
    mine, theirs = algorithm.average.parameters(), algorithm.model.actor.parameters()
    for old, average, actor in zip(before, mine, theirs, strict=True):
        assert not torch.equal(average, actor)
        assert_close(average, 0.75 * old + 0.25 * actor.detach())
    for average, actor in zip(algorithm.average.buffers(), algorithm.model.actor.buffers(), strict=True):
        assert torch.equal(average, actor)


def test_what_acted_is_recorded():
    algorithm = acer()
    obs = torch.randn(5, SIZE)
    _, _, extras = algorithm.act(obs, (), True)
    assert_close(extras["pi"], algorithm.model.actor(obs).logits)


def test_of_the_policy_that_acted_every_weight_is_one():
    algorithm = acer()
    batch = batch_for(algorithm)
    batch = batch._replace(extras={"pi": algorithm.model.actor(batch.obs).logits.detach()})
    metrics = algorithm.update(batch)
    assert float(metrics["policy/importance_weight"]) == pytest.approx(1.0)
