"""Gradient steps as graphs: what eager steps do, one by one and over all minibatches."""

import logging

import pytest
import torch
from fake_graphs import FakeGraphs
from running import parts
from torch.testing import assert_close

PPO = (
    "algo=ppo",
    "env=cartpole",
    "num_envs=4",
    "algo.rollout=8",
    "algo.minibatch=16",
    "algo.epochs=1",
    "network.hidden=[8]",
)
SAC = ("algo=sac", "env=pendulum", "memory.warmup=8", "memory.batch_size=8", "network.hidden=[8]")
SCHEDULES = ("optimizer.schedule=linear", "algo.clip_schedule=linear", "algo.entropy_coef=linear:0.1:0")


def learnt(overrides, graphs=None, updates=3, **watches):
    """Learn in some updates, each at another point of the run; return parameters, metrics, and the generator."""
    made = parts("device=cpu", *overrides)
    if graphs is not None:
        made.algorithm.capture(graphs)
    for name, watch in watches.items():
        made.algorithm.steps()[name].watch = watch
    metrics = []
    while len(metrics) < updates:
        made.algorithm.set_progress(len(metrics) / updates)
        made.memory.add(made.collector.collect(made.algorithm))
        metrics += [made.algorithm.update(batch) for batch in made.memory.batches()]
    theta = torch.cat([step.theta.flatten() for step in made.algorithm.steps().values()])
    return theta, metrics, torch.get_rng_state()


def check(overrides, graphs, **watches):
    one, two = learnt(overrides, **watches), learnt(overrides, graphs, **watches)
    assert_close(two[0], one[0], rtol=1e-5, atol=1e-6)
    for mine, eager in zip(two[1], one[1], strict=True):
        assert mine.keys() == eager.keys()
        for key, x in eager.items():
            assert_close(mine[key], x, rtol=1e-4, atol=1e-5, msg=key)
    assert torch.equal(two[2], one[2])


@pytest.mark.parametrize(
    "more",
    [
        SCHEDULES,
        pytest.param(("optimizer=sgd", "algo.critic_lr=linear:1e-2:0"), marks=pytest.mark.slow),
        pytest.param(("optimizer=rmsprop", "algo.minibatch=32"), marks=pytest.mark.slow),
        pytest.param(("optimizer=adamw", "algo=vmpo"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_all_minibatches_are_one_graph(more):
    """Rates, clip ranges and coefficients move between its replays."""
    graphs = FakeGraphs()
    check((*PPO, *more), graphs)
    assert (graphs.captured, graphs.replays) == (1, 3)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["sac", "td3", "redq", "d4pg"])
def test_each_step_is_a_graph(algo):
    graphs = FakeGraphs()
    check((*SAC, f"algo={algo}", "memory.updates=1"), graphs)
    assert graphs.captured == (3 if algo in ("sac", "redq") else 2)
    assert graphs.replays > graphs.captured


def test_a_step_that_is_watched_goes_one_by_one():
    graphs, seen = FakeGraphs(), []
    check(PPO, graphs, step=lambda step, sample, *args: seen.append(0) or {"more": sample.reward.sum()})
    assert graphs.replays == len(seen) / 2


@pytest.mark.parametrize(
    "more",
    [
        ("algo.kl_stop=0.1",),
        pytest.param(("optimizer=kfac",), marks=pytest.mark.slow),
        pytest.param(
            ("optimizer._target_=torch.optim.NAdam", "~optimizer.schedule", "~optimizer.decoupled"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=" ".join,
)
def test_what_is_not_captured_is_learnt_as_without(more):
    graphs = FakeGraphs()
    check((*PPO, *more), graphs)


def test_a_loss_that_decides_by_numbers_goes_on_without(caplog):
    caplog.set_level(logging.INFO, "pgrun")
    made = parts("device=cpu", *SAC)
    made.collector.env.reset(0)
    for _ in range(9):
        made.memory.add(made.collector.collect(made.algorithm))
    algorithm, graphs = made.algorithm, FakeGraphs()
    algorithm.capture(graphs)
    loss = algorithm.actor_step.loss
    algorithm.actor_step.loss = lambda *args: loss(*args) if float(args[1].sum()) else None
    algorithm.actor_step.captured.functions["take"].roots = (algorithm,)
    for _ in range(2):
        (batch,) = made.memory.batches()
        algorithm.update(batch)
    (line,) = [line for line in caplog.messages if "graph" in line]
    why = "it reads a number out of a tensor, to decide by it"
    assert line == f"graph=true: the gradient step of actor is not captured: {why}"
    assert graphs.captured == 2
