"""Processes on shared weights: A3C."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from unittest import mock

import psutil
import pytest
import torch
import torch.multiprocessing as mp
from running import compose, new_run, parts, same
from shell import pgrun

from pgrun.errors import UserError
from pgrun.loop.team import afresh
from pgrun.parallel.hogwild import Hogwild, SharedClock
from pgrun.parallel.workers import Workers
from pgrun.run import checkpoint

SMALL = ("env=cartpole", "network.hidden=[16]", "eval.final_episodes=2", "eval.every=null", "num_envs=4")


def content(folder):
    return checkpoint.load(folder / "checkpoints" / "latest.pt")


@pytest.mark.parametrize("env", ["cartpole", pytest.param("acrobot", marks=pytest.mark.slow)])
def test_one_process_is_a2c_bit_for_bit(tmp_path, env):
    words = (*SMALL[1:], f"env={env}", "total_steps=600", "algo.normalize_reward=true", "network.normalize_obs=true")
    new_run(tmp_path / "a2c", "algo=a2c", *words).execute()
    new_run(tmp_path / "a3c", "algo=a3c", "workers=1", *words).execute()
    a2c, a3c = content(tmp_path / "a2c"), content(tmp_path / "a3c")
    assert same(a2c["algorithm"], a3c["algorithm"])
    assert same(a2c["generators"], a3c["generators"])
    assert (a2c["clock"]["steps"], a2c["clock"]["updates"]) == (a3c["clock"]["steps"], a3c["clock"]["updates"])


def test_one_process_resumes_exactly(tmp_path):
    words = ("algo=a3c", "workers=1", *SMALL, "checkpoint.every=200", "checkpoint.keep=10")
    new_run(tmp_path / "whole", *words, "total_steps=600").execute()
    first = sorted((tmp_path / "whole" / "checkpoints").glob("step_2*.pt"))[0]
    new_run(tmp_path / "again", *words, "total_steps=600", resume=checkpoint.load(first)).execute()
    assert same(content(tmp_path / "whole")["algorithm"], content(tmp_path / "again")["algorithm"])


def test_the_recipe_is_a2cs():
    for env in ("cartpole", "acrobot"):
        a2c, a3c = compose("algo=a2c", f"env={env}"), compose("algo=a3c", f"env={env}")
        mine = {"_target_", "exploration_per_worker"}
        assert {k: v for k, v in a2c.algo.items() if k not in mine} == {
            k: v for k, v in a3c.algo.items() if k not in mine
        }
        for key in ("optimizer", "network", "env", "memory", "collector", "total_steps", "num_envs"):
            assert a2c[key] == a3c[key], key


@contextmanager
def two(*overrides):
    """Two learners tied to the same weights, as two processes would be."""
    leader, worker = parts("algo=a3c", *SMALL, *overrides), parts("algo=a3c", *SMALL, "seed=7", *overrides)
    other = Hogwild(workers=2, rank=1)
    leader.team.workers = 2
    clock, theirs = SharedClock(1000), SharedClock(1000)
    with mock.patch.object(Workers, "start"), leader.team.at_work(leader.algorithm, leader.settings, clock):
        other.shared = clock.shared
        with other.at_work(worker.algorithm, worker.settings, theirs):
            yield leader, worker, clock, theirs


def gradient(step, value):
    """Take a step along a gradient that is `value` everywhere."""
    with torch.enable_grad():
        step.loss = lambda: (sum((p * value).sum() for p in step.parameters), {})
        step()


def test_gradients_are_applied_to_the_shared_weights_and_these_copied_back():
    with two("optimizer=sgd", "optimizer.lr=0.5", "algo.max_grad_norm=null") as (leader, worker, _, _):
        a, b = leader.algorithm.step, worker.algorithm.step
        assert torch.equal(a.theta, b.theta)  # the leader's weights are everyone's
        before = a.theta.clone()
        gradient(a, 1.0)
        assert torch.equal(b.theta, before)  # a local copy, taken at the rollout's start
        gradient(b, 3.0)  # of weights that have moved on: θ − ½·1 − ½·3
        assert torch.allclose(b.theta, before - 2.0)
        assert torch.allclose(a.theta, before - 0.5)
        leader.algorithm.set_progress(0.5)
        assert torch.equal(a.theta, b.theta)
        assert not a.theta.is_shared()
        assert a.optimizer.theta.is_shared()


def test_the_optimizers_statistics_are_shared():
    with two("algo.max_grad_norm=null") as (leader, worker, _, _):
        a, b = leader.algorithm.step, worker.algorithm.step
        gradient(a, 2.0)
        gradient(b, 4.0)
        alpha = a.optimizer.alpha
        v = alpha * (1 - alpha) * 4.0 + (1 - alpha) * 16.0  # from 0 on
        assert torch.allclose(a.optimizer.state["v"], torch.full_like(a.theta, v))
        assert b.optimizer.state["v"].data_ptr() == a.optimizer.state["v"].data_ptr()


def test_running_statistics_are_shared_and_open_episodes_are_not():
    with two("network.normalize_obs=true", "algo.normalize_reward=true") as (leader, worker, _, _):
        mine, theirs = (dict(p.algorithm.named_buffers()) for p in (leader, worker))
        shared = [name for name in mine if mine[name].data_ptr() == theirs[name].data_ptr() and mine[name].numel()]
        assert any(name.endswith("count") for name in shared)
        assert not any(name.endswith("carry") for name in shared)
        rollout = leader.collector.collect(leader.algorithm)
        leader.algorithm.update(rollout)
        counts = [name for name in mine if name.endswith("count")]
        assert all(theirs[name] == 20 for name in counts)  # 5 steps of 4 environments, seen by the leader alone


def test_the_clock_counts_for_all():
    with two() as (leader, worker, clock, theirs):
        rollout = leader.collector.collect(leader.algorithm)
        clock.advance(rollout)
        theirs.advance(worker.collector.collect(worker.algorithm))
        clock.count_update()
        theirs.count_update()
        assert (theirs.steps, theirs.updates) == (40, 2)
        assert theirs.running
        clock.shared.over.set()
        assert not theirs.running


def test_environments_and_noise_are_each_processes_own():
    words = ("algo=a3c", *SMALL)
    leader, worker = parts(*words), parts_of_rank(1, *words)
    assert not torch.equal(
        leader.collector.collect(leader.algorithm).obs, worker.collector.collect(worker.algorithm).obs
    )


def test_replays_are_each_processes_own():
    words = ("algo=dqn", *SMALL, "parallel=async", "workers=2", "memory=prioritized", "total_steps=1000")
    made = parts(*words)
    assert "in each of 2 processes" in made.memory.note
    assert made.memory.priorities.anneal == 500


def parts_of_rank(rank, *words):
    from pgrun.run.build import build

    return build(compose(*words), rank=rank)


def test_each_process_may_explore_in_its_own_way():
    words = ("algo=a3c", *SMALL, "algo.exploration_per_worker=[0.0,0.02]")
    assert [parts_of_rank(rank, *words).algorithm.entropy_coef for rank in range(3)] == [0.0, 0.02, 0.0]
    assert parts_of_rank(1, "algo=a3c", *SMALL, "algo.entropy_coef=0.3").algorithm.entropy_coef == 0.3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("algo=trpo", "parallel=async"), "TRPO moves parameters by more than gradients"),
        (("algo=acktr", "parallel=async"), "which KFAC keeps to itself"),
        (("algo=a2c", "workers=2"), "say what they do with their gradients"),
        (("algo=a3c", "algo.exploration_per_worker=[]"), "give entropy coefficients"),
        (("algo=a3c", "algo.exploration_per_worker=0.01"), "exploration_per_worker=0.01: give entropy coefficients"),
        (("algo=a3c", "algo.exploration_per_worker=[0.1,-0.1]"), "give entropy coefficients"),
    ],
)
def test_what_it_can_not_do_is_refused(words, says):
    with pytest.raises(UserError, match=says):
        parts(*SMALL, *words)


RUN = ("algo=a3c", *SMALL, "hydra.run.dir=run")


def children(process):
    return [p for p in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]


@contextmanager
def started(folder, *words, workers=1):
    """A run in the background whose workers are there; whatever is left is killed at the end."""
    command = [sys.executable, "-m", "pgrun", *RUN, *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(found := children(process)) < workers or not (folder / "run" / "pgrun.log").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process, found
    finally:
        for p in (*found, process):
            if p.is_running() if isinstance(p, psutil.Process) else p.poll() is None:
                p.kill()
        process.wait()


def gone(processes):
    """Whether all of these end within 20 seconds."""
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_two_processes_from_the_shell(tmp_path):
    said = pgrun(*RUN, "total_steps=40000", "checkpoint.every=20000", cwd=tmp_path)
    assert said.code == 0, said.err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["env_steps"] >= 40_000
    assert result["updates"] >= 40_000 // 20 - 2  # every process's
    last = checkpoint.load(checkpoint.latest(tmp_path / "run" / "checkpoints"))
    assert (last["clock"]["steps"], last["clock"]["updates"]) == (result["env_steps"], result["updates"])
    found = pgrun("eval", "run", "--episodes", "2", "--json", cwd=tmp_path)  # of the policy that the result is of
    assert json.loads(found.out)["eval_return_mean"] == result["eval_return_mean"]
    again = pgrun("resume", "run", "total_steps=41000", cwd=tmp_path)
    assert again.code == 0, again.err
    assert "all processes but the first start afresh" in again.err


def test_what_a_checkpoint_holds_is_what_all_have_learnt():
    with two() as (leader, worker, _, _):
        worker.algorithm.update(worker.collector.collect(worker.algorithm))
        mine, theirs = (p.algorithm.steps()["step"] for p in (leader, worker))
        assert not torch.equal(mine.theta, theirs.theta)
        leader.team.gather(leader.algorithm)
        assert torch.equal(mine.theta, theirs.theta)


def test_who_joins_a_resumed_run_sees_other_episodes_than_at_its_start():
    settings = {"seed": 3, "workers": 2}
    assert afresh(settings, 0) == settings
    assert len({afresh(settings, steps)["seed"] for steps in (0, 1000, 2000)}) == 3


def test_a_second_interrupt_while_it_waits_kills_the_others(monkeypatch):
    context = mp.get_context("spawn")
    workers = Workers(context, 30.0, threading.Event())
    workers.start(1, time.sleep, 60)
    process = workers.processes[1]
    joins = []

    def join(timeout=None):
        joins.append(timeout)
        if len(joins) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(process, "join", join)
    with pytest.raises(KeyboardInterrupt), workers:
        pass
    monkeypatch.undo()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.slow
def test_a_worker_that_is_killed_is_reported_and_the_run_goes_on(tmp_path):
    with started(tmp_path, "total_steps=60000", "workers=3", workers=2) as (process, workers):
        workers[0].kill()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "died (SIGKILL); going on with 2" in err
        assert gone(workers)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_process_outlives_an_interrupted_run(tmp_path, number):
    with started(tmp_path, "total_steps=100000000") as (process, workers):
        time.sleep(1.0)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "go on with: pgrun resume run" in err
        assert gone(workers)
    assert (tmp_path / "run" / "checkpoints" / "latest.pt").exists()


@pytest.mark.slow
def test_no_process_outlives_a_killed_run(tmp_path):
    with started(tmp_path, "total_steps=100000000") as (process, workers):
        process.kill()
        assert gone(workers)


@pytest.mark.slow
def test_a_worker_that_can_not_start_is_reported(tmp_path):
    (tmp_path / "mine.py").write_text(FAILING)
    words = [w for w in RUN if not w.startswith("env=")]
    said = pgrun(*words, "env=gym", "env.id=mine:Mine-v0", "total_steps=30000", cwd=tmp_path)
    assert said.code == 0, said.err
    assert "worker 1 died (exit code 2); going on with 1" in said.err


FAILING = '''
import multiprocessing

import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv


class Mine(CartPoleEnv):
    """Refuses to be made anywhere but in the first process."""

    def __init__(self, **kwargs):
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("no licence for this process")
        super().__init__(**kwargs)


gym.register("Mine-v0", entry_point=Mine, max_episode_steps=500)
'''
