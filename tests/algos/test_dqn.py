"""Deep Q-networks: targets, errors and target networks by hand, refusals, and that they learn."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from probes import Trained, run
from recipes import sampled
from running import compose
from torch.testing import assert_close

from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.run.build import build

SMALL = (
    *("algo=dqn", "env=cartpole", "network.hidden=[16]", "memory.warmup=40", "memory.capacity=400"),
    *("memory.batch_size=16", "num_envs=1"),
)


def made(*overrides):
    """A DQN whose two networks differ, and rows that it could learn from."""
    torch.manual_seed(1)
    a = build(compose(*SMALL, *overrides)).algorithm
    with torch.no_grad():
        a.theta_target.add_(torch.randn_like(a.theta_target))
        a.critic_step.theta.add_(torch.randn_like(a.theta_target))
    m = 64
    batch = Transition(
        obs=torch.randn(m, 4),
        action=torch.randint(2, (m,)),
        reward=torch.randn(m),
        discount=torch.rand(m) * (torch.rand(m) < 0.8),
        next_obs=torch.randn(m, 4),
        last=torch.zeros(m, dtype=torch.bool),
        valid=torch.ones(m, dtype=torch.bool),
        extras={},
    )
    return a, batch


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_targets_by_hand(double, dueling):
    a, batch = made(f"algo.double={double}", f"algo.dueling={dueling}", "algo.gamma=0.9")
    with torch.no_grad():
        y = a.target(batch)
        for i in range(len(y)):
            s = batch.next_obs[i : i + 1]
            theirs = [float(a.q_target(s, torch.tensor([action]))) for action in (0, 1)]
            mine = [float(a.q(s, torch.tensor([action]))) for action in (0, 1)]
            best = (0 if mine[0] > mine[1] else 1) if double else (0 if theirs[0] > theirs[1] else 1)
            want = float(batch.reward[i]) + 0.9 * float(batch.discount[i]) * theirs[best]
            assert float(y[i]) == pytest.approx(want, abs=1e-5)
        other = made(f"algo.double={not double}", f"algo.dueling={dueling}", "algo.gamma=0.9")[0].target(batch)
        assert not torch.allclose(y, other)


@pytest.mark.parametrize("huber", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_by_hand(huber, weighted):
    """Its gradient towards Q is the mean of the weighed errors, cut at ±1 by Huber's."""
    a, batch = made(f"algo.huber={huber}")
    y = 3.0 * torch.randn(64)
    weight = torch.rand(64) if weighted else None
    q = a.q(batch.obs, batch.action).detach()[0]
    delta = (q - y).double()
    assert 10 < int((delta.abs() > 1).sum()) < 60
    want = sum(
        (float(weight[i]) if weighted else 1.0) * (abs(d) - 0.5 if huber and abs(d) > 1 else d * d / 2)
        for i, d in enumerate(delta.tolist())
    )
    loss, metrics = a.critic_loss(batch.obs, batch.action, y, weight)
    assert float(loss.detach()) == pytest.approx(want / 64, rel=1e-5)
    if weighted:
        assert_close(metrics["delta"], delta.abs().float())


def test_a_replay_by_priority_learns_the_errors():
    a, batch = made()
    batch.extras.update(weight=torch.rand(64), priority=torch.zeros(64))
    with torch.no_grad():
        want = (a.q(batch.obs, batch.action)[0] - a.target(batch)).abs()
    metrics = a.update(batch)
    assert_close(batch.extras["priority"], want)
    assert all(x.dim() == 0 for x in metrics.values())


@pytest.mark.parametrize(("tau", "every"), [(1.0, 3), (0.1, 1), (0.25, 2)])
def test_the_target_network_follows(tau, every):
    a, batch = made(f"algo.tau={tau}", f"algo.target_every={every}")
    for i in range(1, 8):
        before = a.theta_target.clone()
        a.update(batch)
        want = tau * a.critic_step.theta + (1 - tau) * before if i % every == 0 else before
        assert_close(a.theta_target, want)
        assert torch.equal(a.theta_target, torch.cat([p.flatten() for p in a.q_target.parameters()]))


def test_what_it_does_without_exploring_is_best():
    a, batch = made()
    action = a.act(batch.obs, (), False)[0]
    assert torch.equal(action, a.q.all(batch.obs)[0].argmax(-1))
    a.set_progress(0.0)
    assert not torch.equal(a.act(batch.obs, (), True)[0], action)


class Masked(gym.Env):
    """One step; the action that would pay most is forbidden, by turns the first or the last."""

    def __init__(self):
        self.action_space = gym.spaces.Discrete(3)
        parts = {"x": gym.spaces.Box(-1.0, 1.0, (1,), np.float32), "action_mask": gym.spaces.MultiBinary(3)}
        self.observation_space = gym.spaces.Dict(parts)

    def see(self):
        mask = np.array([0, 1, 1] if self.first else [1, 1, 0], dtype=np.int8)
        return {"x": np.zeros(1, np.float32), "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.first = bool(self.np_random.integers(2))
        return self.see(), {}

    def step(self, action):
        assert self.see()["action_mask"][action]
        return self.see(), [3.0, 1.0, 2.0][action], True, False, {}


if "DQNMasked-v0" not in gym.registry:
    gym.register("DQNMasked-v0", entry_point=Masked)  # type: ignore[arg-type]


@pytest.mark.parametrize("explore", ["epsilon_greedy", "boltzmann"])
def test_forbidden_actions_are_never_taken(explore):
    """The environment itself would say so; the first actions are random ones."""
    parts, _ = run(
        *(*SMALL, "env=gym", "env.id=DQNMasked-v0", "memory.warmup=50", "total_steps=400", "optimizer.lr=0.01"),
        *(f"algo/exploration={explore}", "+collector.random_hold=3", "algo.target_every=20", "env.autoreset=same_step"),
    )
    seen = {"x": torch.zeros(2, 1), "action_mask": torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])}
    assert parts.algorithm.act(seen, (), False)[0].tolist() == [2, 0]


def test_refusals():
    for overrides, words in (
        (("env=pendulum",), "DQN can't act in .*needs Discrete actions"),
        (("network=lstm",), "use memory=sequences, or network=mlp or cnn"),
        (("algo/exploration=gaussian",), "use algo/exploration=boltzmann or epsilon_greedy"),
    ):
        with pytest.raises(UserError, match=words):
            build(compose("algo=dqn", "env=cartpole", *overrides))


# ---------------------------------------------------------------- probes

GAMMA = 0.8
LEARN = (
    *("algo=dqn", "network=mlp", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}"),
    *("optimizer.lr=0.005", "optimizer.schedule=linear", "total_steps=1500", "memory.warmup=200", "algo.rollout=2"),
    *("memory.batch_size=64", "algo.tau=0.1", "algo.target_every=1"),
)
KINDS = {
    "plain": ("algo.double=false",),
    "dueling, three steps": ("algo.dueling=true", "memory.n_step=3"),
    "by priority": ("memory=prioritized", "algo/exploration=boltzmann"),
}


def trained(probe, *overrides):
    return Trained(run(*LEARN, f"env.id=Probe{probe}-v0", *overrides)[0].algorithm)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_time_limit_is_bootstrapped_from_the_true_successor(kind):
    value = trained("Phases", *KINDS[kind]).value([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_death_is_not_bootstrapped(kind):
    observations = [[float(i == t) for i in range(6)] for t in range(5)]
    value = trained("Mortal", *KINDS[kind]).value(*observations)
    assert value == pytest.approx([(1.0 - GAMMA ** (5 - t)) / (1.0 - GAMMA) for t in range(5)], abs=0.2)


@pytest.mark.parametrize("kind", sampled(list(KINDS), 3))
def test_it_takes_the_action_that_pays(kind):
    agent = trained("Match", *KINDS[kind], "total_steps=800")
    assert agent.action([1.0], [-1.0]) == [1, 0]
    assert agent.value([1.0], [-1.0]) == pytest.approx([1.0, 1.0], abs=0.1)


def test_images():
    """Convolutions, observations kept once, the compiled path of a sample: it trains."""
    parts, clock = run(
        *("algo=dqn", "network=cnn", "network.hidden=[16]", "network.channels=[4,4,4]", "env=gym", "env.id=DQNDots-v0"),
        *("memory.warmup=40", "memory.capacity=200", "memory.batch_size=8", "total_steps=120", "memory.n_step=2"),
        "algo.dueling=true",
    )
    assert parts.memory.once
    assert clock.updates == 21
    assert not torch.equal(parts.algorithm.theta_target, parts.algorithm.critic_step.theta)


class Dots(gym.Env):
    """Random images, ten steps long."""

    def __init__(self):
        self.action_space = gym.spaces.Discrete(2)
        self.observation_space = gym.spaces.Box(0, 255, (3, 20, 20), np.uint8)

    def see(self):
        return self.np_random.integers(256, size=(3, 20, 20), dtype=np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.see(), {}

    def step(self, action):
        self.t += 1
        return self.see(), float(action), self.t == 10, False, {}


if "DQNDots-v0" not in gym.registry:
    gym.register("DQNDots-v0", entry_point=Dots)  # type: ignore[arg-type]
