"""Runs whose updates and rollouts are graphs, emulated on the CPU: the runs that they are without."""

import logging
import time

import pytest
import torch
from fake_graphs import FakeGraphs, captured_parts
from running import compose, parts, same
from torch.testing import assert_close

from pgrun.loop.train import Clock, train
from pgrun.run import checkpoint
from pgrun.run.build import build
from pgrun.run.run import Run

POLE = ("env=cartpole", "env.backend=tensor", "num_envs=4", "network.hidden=[8]", "total_steps=160")
PPO = ("algo=ppo", *POLE, "algo.rollout=8", "algo.minibatch=16", "algo.epochs=1")
SWING = ("env=pendulum", "memory.warmup=8", "memory.batch_size=8", "network.hidden=[8]", "total_steps=16")
CASES = {
    "ppo": PPO,
    "ppo by schedules": (*PPO, "optimizer.schedule=linear", "algo.clip_range=cosine:0.3:0.1", "algo.clip_high=0.3"),
    "ppo normalised": (*PPO, "network.normalize_obs=true", "algo.normalize_reward=true"),
    "a2c": ("algo=a2c", *POLE, "algo.rollout=5"),
    "sac": ("algo=sac", *SWING),
    "td3": ("algo=td3", *SWING, "env.backend=tensor"),
    "ddpg": ("algo=ddpg", *SWING),
    "sac_v1": ("algo=sac_v1", *SWING),
    "redq": ("algo=redq", *SWING),
    "dqn": ("algo=dqn", *POLE, "memory.warmup=8", "memory.batch_size=8"),
    "trpo": ("algo=trpo", *POLE, "algo.rollout=32", "algo.damping=0.1"),  # else rounding is amplified
    "npg": ("algo=npg", *POLE, "algo.rollout=32", "algo.damping=0.1"),
    "ppo with noise that is kept": (*PPO, "env=pendulum", "network.std=sde"),
    "reinforce": ("algo=reinforce", *POLE, "total_steps=1000"),
    "ppo with a memory": (*PPO, "network=gru", "network.size=8"),
    "prioritized": ("algo=sac", *SWING, "memory=prioritized"),
}
QUICK = ("ppo by schedules", "sac", "td3")
WHOLE = {  # an update is one graph
    *("ppo", "ppo by schedules", "ppo normalised", "ppo with noise that is kept", "a2c"),
    *("sac", "sac_v1", "prioritized"),
}


def trained(made):
    """Run the loop; return what was learnt, the metrics, and the generators."""
    metrics, clock = [], Clock(made.settings["total_steps"])
    hook = [lambda clock, found: metrics.append(found)]
    train(made.algorithm, made.collector, made.memory, clock, hook, update=made.update)
    return made.algorithm.state_dict(), metrics, torch.get_rng_state()


@pytest.mark.parametrize("name", [x if x in QUICK else pytest.param(x, marks=pytest.mark.slow) for x in CASES])
def test_a_run_by_graphs_is_the_eager_one(name):
    eager = parts("device=cpu", *CASES[name])
    want = trained(eager)
    made, graphs = captured_parts(*CASES[name])
    found = trained(made)
    for key, x in want[0].items():
        assert_close(found[0][key], x, rtol=1e-3, atol=1e-5, msg=key)
    for mine, theirs in zip(found[1], want[1], strict=True):
        assert mine.keys() == theirs.keys()
        for key, x in theirs.items():
            assert_close(mine[key], x, rtol=1e-2, atol=1e-4, msg=key)
    assert torch.equal(found[2], want[2])
    if "env=pendulum" not in CASES[name]:  # what follows from choices is the same to the bit
        assert same(made.collector.stats.snapshot(), eager.collector.stats.snapshot())
    assert made.update.able == (name in WHOLE)
    assert graphs.captured <= 8


def test_rollouts_and_updates_are_a_graph_each():
    made, graphs = captured_parts(*CASES["ppo"])
    _, metrics, _ = trained(made)
    # the world's answers are looked at in the first rollout, which is no graph
    assert (graphs.captured, graphs.replays, len(metrics)) == (2, 9, 5)


def test_one_line_says_what_is_not_captured(caplog):
    caplog.set_level(logging.INFO, "pgrun")
    made, graphs = captured_parts(*CASES["td3"])
    trained(made)
    (line,) = [line for line in caplog.messages if "graph" in line]
    assert line.startswith("graph=true: an update is not one graph (each call sets 'updates'")
    assert graphs.captured == 3  # acting with the world's step, the critics, the actor


RUN = ("eval.every=null", "eval.final_episodes=0", "checkpoint.every=64", "checkpoint.keep=9")


def finished(folder, overrides, resume=None):
    """Run to the end with emulated graphs; return what the last checkpoint holds."""
    config = compose(*overrides, *RUN, "device=cpu")
    made = build(config)
    made.capture(FakeGraphs(), acts=True)
    names = {"algo": "algo", "env": "env"}
    run = Run(config, made, folder, names=names, begin=time.perf_counter(), quiet=True, resume=resume)
    run.execute()
    state = checkpoint.load(checkpoint.latest(folder / "checkpoints"))
    return {key: state[key] for key in ("algorithm", "collector", "memory", "generators")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo normalised", "ppo by schedules", "sac"])
def test_resuming_changes_no_bit(name, tmp_path):
    more = ("total_steps=130",) if name == "sac" else ()
    want = finished(tmp_path / "whole", (*CASES[name], *more))
    steps = sorted((tmp_path / "whole" / "checkpoints").glob("step_*.pt"), key=lambda path: int(path.stem[5:]))
    assert len(steps) > 1
    got = finished(tmp_path / "resumed", (*CASES[name], *more), checkpoint.load(steps[0]))
    assert [key for key in want if not same(want[key], got[key])] == []
