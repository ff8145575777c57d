"""Guided policy search: its mixture and its objective by loops, its guides, and the task that needs them."""

import functools
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from probes import run
from running import compose
from torch.distributions import Normal
from torch.testing import assert_close

from pgrun.algos.gps import GPS
from pgrun.data.types import Transition
from pgrun.envs.episode_file import save
from pgrun.loop.evaluate import evaluate
from pgrun.memory.side_by_side import tensors
from pgrun.nn import MLP
from pgrun.optim.rules import SGD, Adam
from pgrun.run.build import build

GAMMA, SIZE, DIM = 0.9, 3, 2


def gps(**changes):
    network = MLP(
        hidden=[8],
        activation="tanh",
        init_gain=1.0,
        head_gain=1.0,
        shared=False,
        log_std_init=-0.2,
        normalize_obs=False,
    )
    kwargs = {
        "obs_space": gym.spaces.Box(-1.0, 1.0, (SIZE,), np.float32),
        "action_space": gym.spaces.Box(-1.0, 1.0, (DIM,), np.float32),
        "network": network,
        "optimizer": functools.partial(SGD, lr=0.0, schedule="constant", momentum=0.0),
        "device": "cpu",
        "compile": False,
        "gamma": GAMMA,
        "policies": 3,
        "epochs": 1,
        "fit_steps": 0,
        "regularization": 0.3,
        "max_grad_norm": None,
    }
    return GPS(**{**kwargs, **changes})


def samples(sources=(-1, -1, 4, 5, 5), lengths=(4, 2, 3, 4, 1)):
    """Episodes of unequal length, one a column, of the policies `sources`; of one guide the density is known."""
    t, e = max(lengths), len(lengths)
    valid = torch.arange(t).unsqueeze(1) < torch.tensor(lengths)
    log_prob = torch.full((t, e), torch.nan)
    log_prob[:, 0] = -1.5
    obs = torch.randn(t, e, SIZE)
    extras = {"source": torch.tensor(sources).expand(t, e), "log_prob": log_prob}
    return Transition(obs, torch.randn(t, e, DIM), torch.randn(t, e), torch.ones(t, e), obs, valid, valid, extras)


def density(actor, data, t, i):
    pi = actor(data.obs[t, i])
    return Normal(pi.mean, pi.log_std.exp()).log_prob(data.action[t, i]).sum()


def after(algorithm, seed):
    """A policy other than the present one, as its parameters."""
    g = torch.Generator().manual_seed(seed)
    return algorithm.step.theta + 0.3 * torch.randn(algorithm.step.theta.shape, generator=g)


def prepared():
    """An algorithm whose policies 4 and 5, and whose guides' density, all differ."""
    algorithm = gps()
    algorithm.number.fill_(5)
    algorithm.past[4 % 3], algorithm.past[5 % 3] = after(algorithm, 1), after(algorithm, 2)
    algorithm.fit_step.theta.copy_(after(algorithm, 3))
    return algorithm


def naive_mixture(algorithm, data):
    """log 1/n Σ_j q_j(ζ_{i,1:t}), one j for each sample."""
    actors = {}
    for number in (4, 5):
        other = gps()
        other.step.theta.copy_(algorithm.past[number % 3])
        actors[number] = other.model.actor
    actors[-1] = algorithm.guide.actor
    source = data.extras["source"][0].tolist()
    table = torch.zeros(data.reward.shape)
    for i in range(table.shape[1]):
        for t in range(table.shape[0]):
            densities = []
            for j in source:
                log_q = 0.0
                for k in range(t + 1):
                    if data.valid[k, i]:
                        known = j == -1 and i == 0
                        log_q += -1.5 if known else float(density(actors[j], data, k, i).detach())
                densities.append(log_q)
            table[t, i] = torch.tensor(densities).logsumexp(0) - math.log(len(source))
    return table


def test_the_mixture_of_all_that_acted():
    algorithm, data = prepared(), samples()
    now = algorithm.step.theta.clone()
    assert_close(algorithm.log_mixture(data), naive_mixture(algorithm, data), rtol=1e-4, atol=1e-4)
    assert torch.equal(algorithm.step.theta, now)


def test_the_objective_by_loops():
    """Φ = Σ_t [1/Z_t Σ_i w_{i,t} γ^t r_t^i + w_r log (Z_t / n)], w = π/q, and its gradient."""
    algorithm, data = prepared(), samples()
    log_q = naive_mixture(algorithm, data)
    t_max, n = data.reward.shape
    phi = torch.zeros(())
    for t in range(t_max):
        w = []
        for i in range(n):
            log_pi = sum(density(algorithm.model.actor, data, k, i) for k in range(t + 1) if data.valid[k, i])
            w.append((log_pi - log_q[t, i]).exp())
        z = sum(w)
        phi = phi + sum(w[i] / z * GAMMA**t * data.reward[t, i] for i in range(n) if data.valid[t, i])
        phi = phi + 0.3 * (z / n).log()
    loss, _ = algorithm.loss(data._replace(extras={**data.extras, "log_q": algorithm.log_mixture(data)}))
    assert_close(loss, -phi, rtol=1e-4, atol=1e-4)
    parameters = list(algorithm.model.parameters())
    mine, theirs = (torch.autograd.grad(x, parameters, retain_graph=True) for x in (loss, -phi))
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_on_its_own_samples_alone_the_weights_are_one():
    algorithm = gps(regularization=0.0)
    data = samples(sources=(0,) * 5)
    metrics = algorithm.update(data)
    assert float(metrics["policy/log_z"]) == pytest.approx(0.0, abs=1e-5)
    discounted = GAMMA ** torch.arange(4).unsqueeze(1) * data.reward * data.valid
    assert float(metrics["value/estimate"]) == pytest.approx(float(discounted.sum() / 5), abs=1e-5)


def test_who_acted_is_recorded_and_kept():
    algorithm = gps(optimizer=functools.partial(SGD, lr=0.01, schedule="constant", momentum=0.0))
    thetas = []
    for number in range(5):
        action, _, extras = algorithm.act(torch.randn(2, SIZE), (), True)
        assert extras["source"].tolist() == [number] * 2
        thetas.append(algorithm.step.theta.clone())
        algorithm.update(samples(sources=(number,) * 5))
    for number in (2, 3, 4):
        assert torch.equal(algorithm.past[number % 3], thetas[number])
    assert not torch.equal(thetas[3], thetas[4])
    assert action.shape == (2, DIM)


def test_the_search_starts_from_the_guides_density():
    """Fitted by maximum likelihood: the demonstrated mean, and its deviation 0.3."""
    adam = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "decoupled": False, "schedule": "constant"}
    algorithm = gps(fit_steps=400, epochs=1, optimizer=functools.partial(Adam, lr=0.01, **adam), regularization=0.0)
    data = samples(sources=(-1,) * 39 + (0,), lengths=(20,) * 40)
    target = data.obs[..., :DIM] * 0.5 + 0.2
    data = data._replace(action=target + 0.3 * torch.randn_like(target), reward=torch.zeros_like(data.reward))
    own = algorithm.step.theta.clone()
    algorithm.update(data)
    pi = algorithm.guide.actor(data.obs)
    assert float((pi.mean - target)[:, :39].abs().mean()) < 0.07
    assert_close(pi.log_std.exp(), torch.full((DIM,), 0.3), atol=0.03, rtol=0.0)
    assert torch.equal(algorithm.past[0], own)  # what acted, not what came out
    assert (algorithm.step.theta - algorithm.fit_step.theta).abs().max() < 0.011  # one step of Adam away
    fitted = algorithm.fit_step.theta.clone()
    algorithm.update(data)
    assert torch.equal(algorithm.fit_step.theta, fitted)  # once


def demonstrations(path, n=5):
    """Straight ways to the goal of env=sparse_reach, without a density."""
    obs = torch.linspace(0.0, 1.0, 33).reshape(-1, 1, 1) * 1.6 - 0.8 + 0.05 * torch.randn(1, n, 2)
    action = (1.0 + 0.1 * torch.randn(32, n, 2)).clamp(max=1.2)
    last = torch.zeros(32, n, dtype=torch.bool)
    last[-1] = True
    data = Transition(obs[:-1], action, last.float(), 1.0 - last.float(), obs[1:], last, torch.ones_like(last), {})
    box = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    save(path, data, env_id="sparse_reach", obs_space=box, action_space=box)


SHORT = ("algo=gps", "env=sparse_reach", "network.hidden=[32]", "optimizer.lr=3e-3", "algo.fit_steps=200")


def test_five_demonstrations_solve_what_nobody_finds(tmp_path):
    demonstrations(tmp_path / "demos.npz")
    parts, clock = run(*SHORT, f"demonstrations={tmp_path}/demos.npz", "total_steps=3000")
    assert clock.updates >= 4
    assert evaluate(parts.algorithm, parts.make_eval_env(20), 20, seed=1).mean >= 0.9
    alone, _ = run(*SHORT, "total_steps=3000")
    assert evaluate(alone.algorithm, alone.make_eval_env(20), 20, seed=1).mean == 0.0


def test_a_snapshot_of_the_memory_restores_it(tmp_path):
    demonstrations(tmp_path / "demos.npz")
    overrides = (*SHORT, f"demonstrations={tmp_path}/demos.npz", "num_envs=3", "memory.capacity=2")
    one, two = (build(compose(*overrides)) for _ in range(2))
    for number in range(3):
        one.algorithm.number.fill_(number)
        one.memory.add(one.collector.collect(one.algorithm))
    two.memory.restore(one.memory.snapshot())
    (mine,), (theirs,) = one.memory.batches(), two.memory.batches()
    assert mine.extras["source"][0].tolist() == [-1] * 5 + [1] * 3 + [2] * 3
    assert mine.extras["log_prob"][:, :5].isnan().any()
    for x, y in zip(tensors(mine), tensors(theirs), strict=True):
        assert_close(x, y, rtol=0.0, atol=0.0, equal_nan=True)
