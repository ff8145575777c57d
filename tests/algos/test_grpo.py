"""GRPO: what a trajectory is compared with, the gradient's expectation, padding, refusals, and the same run twice."""

import functools
import itertools
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from probes import Trained, run
from recipes import sampled
from running import compose, new_run, parts, same
from shell import pgrun_inside
from torch.testing import assert_close

from pgrun.algos.grpo import GRPO
from pgrun.core.advantages import TotalReturn
from pgrun.core.baselines import Zero
from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.loop.evaluate import evaluate
from pgrun.nn import MLP
from pgrun.optim.rules import SGD
from pgrun.run import checkpoint
from pgrun.run.build import build

ARMS = 4


def grpo(group=3, obs=1, **changes):
    """A table of logits; its steps have size 0, so that `theta.grad` is the gradient at the start."""
    network = MLP(hidden=[], activation="tanh", init_gain=1.0, head_gain=1.0, shared=False, log_std_init=0.0,
                  normalize_obs=False)  # fmt: skip
    common = {
        "obs_space": gym.spaces.Box(-1.0, 1.0, (obs,), np.float32),
        "action_space": gym.spaces.Discrete(ARMS),
        "network": network,
        "optimizer": functools.partial(SGD, lr=0.0, schedule="constant", momentum=0.0),
        "device": "cpu",
        "compile": False,
        "advantage": TotalReturn(),
        "baseline": Zero(),
        "gamma": 1.0,
        "rollout": None,
        "whole_episodes": True,
        "normalize_reward": False,
        "max_grad_norm": None,
        "normalize_std": True,
        "normalize_length": True,
        "epochs": 1,
        "minibatch": 10**9,
        "clip_range": 0.2,
        "clip_schedule": "constant",
        "entropy_coef": 0.0,
        "reference": None,
        "reference_coef": 0.1,
        "kl_estimator": "k3",
        "kl_in": "loss",
    }
    return GRPO(group=group, **{**common, **changes})


def rollout_of(lengths, obs=1, seed=0, t_max=None):
    """Trajectories of these lengths, one a column; what lies beyond them is noise and not valid."""
    g, b = torch.Generator().manual_seed(seed), len(lengths)
    t_max = t_max or max(lengths)
    row = torch.arange(t_max).unsqueeze(1)
    x = torch.randn(t_max, b, obs, generator=g)
    last = row == torch.tensor(lengths) - 1
    beyond = row >= torch.tensor(lengths)
    return Transition(
        obs=x,
        action=torch.randint(ARMS, (t_max, b), generator=g),
        reward=torch.randn(t_max, b, generator=g),
        discount=1.0 - last.float(),
        next_obs=torch.randn(t_max, b, obs, generator=g),
        last=last | (beyond & (torch.rand(t_max, b, generator=g) < 0.3)),
        valid=~beyond,
        extras={},
    )


def gradient(algorithm, batch):
    """Minus the loss's gradient after one update: the direction that is climbed."""
    algorithm.update(batch)
    return -algorithm.step.theta.grad.clone()


LENGTHS = [4, 1, 6, 2, 5, 3]


@pytest.mark.parametrize("gamma", [1.0, 0.7])
@pytest.mark.parametrize("normalize_std", [True, False])
@pytest.mark.parametrize("normalize_length", [True, False])
def test_the_gradient_against_a_loop(gamma, normalize_std, normalize_length):
    algorithm = grpo(obs=2, gamma=gamma, normalize_std=normalize_std, normalize_length=normalize_length)
    batch = rollout_of(LENGTHS, obs=2)
    pi = algorithm.model.policy(batch)
    score = {}
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            log_prob = pi.log_prob(batch.action)[t, b]
            parts_of_it = torch.autograd.grad(log_prob, list(algorithm.model.parameters()), retain_graph=True)
            score[t, b] = torch.cat([x.flatten() for x in parts_of_it])
    r = [sum(gamma**t * float(batch.reward[t, b]) for t in range(n)) for b, n in enumerate(LENGTHS)]
    want = torch.zeros_like(score[0, 0])
    for b, length in enumerate(LENGTHS):
        mine = r[b // 3 * 3 : b // 3 * 3 + 3]
        mean = sum(mine) / 3
        std = math.sqrt(sum((x - mean) ** 2 for x in mine) / 2) if normalize_std else 1.0
        weight = 1.0 / (6 * length) if normalize_length else 1.0 / sum(LENGTHS)
        want += weight * sum(score[t, b] for t in range(length)) * (r[b] - mean) / std
    order = [p.data_ptr() for p in algorithm.model.parameters()]
    assert order == sorted(order)  # the flat vector has the parameters in this order
    assert_close(gradient(algorithm, batch), want, atol=1e-5, rtol=1e-4)


def test_minibatches_add_up_to_the_whole():
    """The mean over an epoch's minibatches is the gradient of the whole, whatever the lengths."""
    algorithm, batch = grpo(), rollout_of([4, 1, 6, 2, 8, 3])  # 24 steps
    want = gradient(algorithm, batch)
    compared, _ = algorithm.compare(batch)
    got = []
    for sample in algorithm.minibatches(compared, 1, 4):
        algorithm.step(sample, torch.tensor(0.2))
        got.append(-algorithm.step.theta.grad.clone())
    assert len(got) == 6
    assert_close(torch.stack(got).mean(0), want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("minibatch", [10**9, 5])
def test_padding_counts_nowhere(minibatch):
    results = []
    for t_max in (6, 11):
        torch.manual_seed(0)
        algorithm = grpo(minibatch=minibatch, epochs=3, optimizer=functools.partial(SGD, lr=0.5, schedule="constant",
                                                                                    momentum=0.0))  # fmt: skip
        batch = rollout_of(LENGTHS)
        if t_max > 6:
            more = rollout_of(LENGTHS, seed=9, t_max=t_max)  # noise of its own behind every end
            valid = torch.cat([batch.valid, more.valid[6:]])
            pad = [torch.cat([x, y[6:]]) for x, y in zip(batch[:6], more[:6], strict=True)]
            pad = [torch.where(valid.view(*valid.shape, *[1] * (p.dim() - 2)), p, m)
                   for p, m in zip(pad, more[:6], strict=True)]  # fmt: skip
            batch = Transition(*pad, valid, {})
        metrics = algorithm.update(batch)
        results.append((algorithm.step.theta.detach().clone(), metrics))
    assert_close(results[0][0], results[1][0], atol=1e-6, rtol=1e-5)
    for key in results[0][1]:
        assert_close(results[0][1][key], results[1][1][key], atol=1e-6, rtol=1e-5)


# ---- the bandit


def enumerated(algorithm, pays, group):
    """The expected gradient of a one-step bandit: every tuple of a group's arms weighed by its probability."""
    p = algorithm.model.policy(rollout_of([1])._replace(obs=torch.zeros(1, 1, 1))).params().softmax(-1)[0, 0].detach()
    total = torch.zeros_like(algorithm.step.theta)
    for arms in itertools.product(range(ARMS), repeat=group):
        action = torch.tensor([arms])
        ones = torch.ones(1, group)
        batch = Transition(
            torch.zeros(1, group, 1), action, pays[action], 0 * ones, torch.zeros(1, group, 1), ones > 0, ones > 0, {}
        )
        total += float(p[list(arms)].prod()) * gradient(algorithm, batch)
    return p, total


def logits_gradient(p, value):
    """∇ of Σ_a π(a) value(a) in the logits of a softmax: π(a) (value(a) − Σ πvalue)."""
    return p * (value - (p * value).sum())


def bandit(group, **changes):
    torch.manual_seed(3)
    algorithm = grpo(group, **changes)
    with torch.no_grad():
        algorithm.model.actor.head.layer.bias.copy_(torch.tensor([0.4, -0.3, 0.9, 0.0]))
    return algorithm


def of_logits(algorithm, flat):
    """The part of a flat gradient that is the logits' (the biases': what is seen is 0)."""
    names = [name for name, _ in algorithm.model.named_parameters()]
    sizes = [p.numel() for p in algorithm.model.parameters()]
    parts = dict(zip(names, flat.split(sizes), strict=True))
    assert parts["actor.head.layer.weight"].eq(0.0).all()
    return parts["actor.head.layer.bias"]


@pytest.mark.parametrize("group", [2, 3, 4])
def test_without_the_deviation_the_gradient_is_exact_but_for_a_factor(group):
    """The own return is in the mean, so E = (1 − 1/G) ∇J, for rewards of any kind."""
    pays = torch.tensor([1.0, -2.0, 0.5, 3.0])
    algorithm = bandit(group, normalize_std=False)
    p, found = enumerated(algorithm, pays, group)
    want = (1.0 - 1.0 / group) * logits_gradient(p, pays)
    assert_close(of_logits(algorithm, found), want, atol=1e-5, rtol=1e-4)
    assert want.abs().max() > 0.1


@pytest.mark.parametrize("group", [2, 3, 4])
def test_with_the_deviation_a_right_or_wrong_answers_gradient_is_rescaled(group):
    """For rewards 0 and 1 with success probability q: ∇q Σ_k Bin(k; G, q) k(G−k)/(G² s_k q(1−q)), s_k the deviation."""
    pays = torch.tensor([0.0, 1.0, 0.0, 1.0])
    algorithm = bandit(group)
    p, found = enumerated(algorithm, pays, group)
    q, factor = float((p * pays).sum()), 0.0
    for k in range(1, group):
        s = math.sqrt(k * (group - k) / (group * (group - 1)))
        binomial = math.comb(group, k) * q**k * (1 - q) ** (group - k)
        factor += binomial * k * (group - k) / (group**2 * s * q * (1 - q))
    assert_close(of_logits(algorithm, found), factor * logits_gradient(p, pays), atol=1e-5, rtol=1e-4)
    assert abs(factor - (1.0 - 1.0 / group)) > 0.1


# ---- the loss away from where it began


def test_the_clip_and_the_reference_by_hand():
    """After the policy has moved: min(ρÂ, clip(ρ)Â) and the penalty coef·ρ·k3, each trajectory's mean."""
    algorithm, batch = grpo(reference="somewhere", reference_coef=0.3, entropy_coef=0.05), rollout_of(LENGTHS)
    other = grpo()
    with torch.no_grad():
        other.model.actor.head.layer.bias.copy_(torch.tensor([0.2, -0.1, 0.3, 0.0]))
    algorithm.begin(lambda run: {f"model.{k}": v for k, v in other.model.state_dict().items()})
    sample, _ = algorithm.compare(algorithm.reference.see(batch, algorithm.model))
    with torch.no_grad():
        algorithm.step.theta += 0.6 * torch.randn(
            algorithm.step.theta.shape, generator=torch.Generator().manual_seed(1)
        )
    got, metrics = algorithm.loss(sample, torch.tensor(0.2))
    with torch.no_grad():
        pi, reference = algorithm.model.policy(batch), other.model.policy(batch).log_prob(batch.action)
        log_prob = pi.log_prob(batch.action)
    policy, entropy, clipped = 0.0, 0.0, 0
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            new = float(log_prob[t, b])
            ratio = math.exp(new - float(sample.extras["log_prob"][t, b]))
            r = math.exp(float(reference[t, b]) - new)
            a = float(sample.extras["psi"][t, b])
            surrogate = min(ratio * a, min(max(ratio, 0.8), 1.2) * a)
            policy += (-surrogate + 0.3 * ratio * (r - 1 - math.log(r))) / (6 * length)
            probability = pi.params()[t, b].softmax(-1)
            entropy -= float((probability * probability.log()).sum()) / sum(LENGTHS)
            clipped += abs(ratio - 1) > 0.2
    assert float(got.detach()) == pytest.approx(policy - 0.05 * entropy, abs=1e-5)
    assert float(metrics["loss/policy"]) == pytest.approx(policy, abs=1e-5)
    assert float(metrics["policy/clip_fraction"]) == pytest.approx(clipped / sum(LENGTHS))
    assert 0 < clipped < sum(LENGTHS)


# ---- whole runs

SMALL = ("algo=grpo", "network.hidden=[16]", "num_envs=8", "algo.group=4", "algo.minibatch=64", "algo.epochs=2")
SHORT = ("env.max_episode_steps=20", "total_steps=480")
RUNS = {
    "bandit": ("env=contextual_bandit", "total_steps=80"),
    "native cartpole": ("env=cartpole", "total_steps=600"),
    "sync cartpole": ("env=cartpole", "env.backend=sync", "total_steps=600"),
    "hidden velocities": (
        "env=cartpole_pomdp",
        "network=gru",
        "network.hidden=[8]",
        "env.max_episode_steps=20",
        "total_steps=480",
    ),
    "box2d": ("env=lunar_lander", "env.max_episode_steps=20", "total_steps=480"),
}


@pytest.mark.parametrize("name", sampled(list(RUNS), ("hidden velocities",)))
def test_a_seed_decides_and_resuming_changes_nothing(name, tmp_path):
    overrides = (
        *SMALL,
        *RUNS[name],
        "checkpoint.every=1",
        "checkpoint.keep=99",
        "eval.every=null",
        "eval.final_episodes=1",
    )
    whole = new_run(tmp_path / "a", *overrides)
    whole.execute()
    want = checkpoint.load(whole.checkpoints / "latest.pt")
    paths = sorted(whole.checkpoints.glob("step_*.pt"), key=lambda path: int(path.stem[5:]))
    assert len(paths) >= 3
    again = new_run(tmp_path / "b", *overrides)
    again.execute()
    assert same(checkpoint.load(again.checkpoints / "latest.pt")["algorithm"], want["algorithm"])
    resumed = new_run(tmp_path / "c", *overrides, resume=checkpoint.load(paths[1]))
    resumed.execute()
    got = checkpoint.load(resumed.checkpoints / "latest.pt")
    assert [key for key in ("algorithm", "collector", "generators") if not same(got[key], want[key])] == []
    other = new_run(tmp_path / "d", *overrides, "seed=1")
    other.execute()
    assert not same(checkpoint.load(other.checkpoints / "latest.pt")["algorithm"], want["algorithm"])


PROBE = ("env=gym", "algo=grpo", "network.hidden=[32,32]", "optimizer.schedule=linear", "total_steps=3000")


@pytest.mark.parametrize(("probe", "pays"), sampled([("Choice", [1, 1]), ("Match", [1, 0])], [("Match", [1, 0])]))
def test_the_policy_takes_the_action_that_pays(probe, pays):
    made, _ = run(*PROBE, f"env.id=Probe{probe}-v0", "optimizer.lr=0.01")
    seen = {"Choice": ([0.0], [0.0]), "Match": ([1.0], [-1.0])}[probe]
    assert Trained(made.algorithm).action(*seen) == pays


@pytest.mark.slow
@pytest.mark.parametrize(("probe", "pays"), [("Choice", [0.5, 0.5]), ("Match", [0.5, -0.5])])
def test_the_policy_finds_the_number_that_pays(probe, pays):
    calm = ("optimizer.lr=0.005", "network.log_std_init=-1", "total_steps=6000")
    made, _ = run(*PROBE, f"env.id=Probe{probe}-v0", "+env.kwargs.continuous=true", *calm)
    seen = {"Choice": ([0.0], [0.0]), "Match": ([1.0], [-1.0])}[probe]
    assert Trained(made.algorithm).action(*seen) == pytest.approx(pays, abs=0.1)


@pytest.mark.slow
def test_the_bandit_is_solved():
    """Also by the policy that still explores."""
    made, clock = run("algo=grpo", "env=contextual_bandit", "total_steps=8000")
    assert clock.steps == 8_000
    world = made.make_eval_env(400)
    assert evaluate(made.algorithm, world, 400, seed=1).mean == 1.0
    assert evaluate(made.algorithm, world, 400, seed=1, explore=True).mean > 0.9


# ---- refusals


def refusal(*overrides):
    with pytest.raises(UserError) as caught:
        build(compose("algo=grpo", *overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cant_work_is_refused():
    assert "algo.group=1 leaves nothing to compare with" in refusal("algo.group=1")
    assert "env.num_envs=12 can't be cut into groups of 8; use env.num_envs=8" in refusal("num_envs=12")
    assert "one episode a rollout" in refusal("collector.episodes=64")
    assert "environments" in refusal("env.backend=envpool")


def test_a_refusal_leaves_nothing_behind(tmp_path):
    said = pgrun_inside("algo=grpo", "env.backend=envpool", cwd=tmp_path)
    assert said.code == 2
    assert "can't start 8 copies in one state" in said.line
    assert not list(tmp_path.iterdir())


def test_the_reference_is_a_run(tmp_path):
    whole = new_run(tmp_path / "a", *SMALL, *RUNS["bandit"], "eval.final_episodes=1")
    whole.execute()
    overrides = (*SMALL, *RUNS["bandit"], f"algo.reference={tmp_path / 'a'}", "algo.reference_coef=1")
    made = parts(*overrides)
    frozen = made.algorithm.reference.actor.state_dict()
    assert same(dict(frozen), dict(whole.parts.algorithm.model.actor.state_dict()))
    made.algorithm.update(made.collector.collect(made.algorithm))
    assert same(dict(made.algorithm.reference.actor.state_dict()), dict(frozen))
