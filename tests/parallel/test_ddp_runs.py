"""Whole runs of parallel=ddp by the shell: how they go on, how they end, and that nothing is left of them."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager

import psutil
import pytest
import torch
from running import new_run, same
from shell import pgrun
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pgrun.errors import UserError
from pgrun.run import checkpoint
from pgrun.shell import torchrun

WORDS = ("algo=ppo", "env=cartpole", "env.num_envs=4", "algo.rollout=32", "algo.minibatch=64", "network.hidden=[16]")
NORMALIZED = ("network.normalize_obs=true", "algo.normalize_reward=true")
EVALS = ("eval.every=null", "eval.final_episodes=4")
DDP = ("parallel=ddp", "workers=2")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc-per-node=2")
FAILING = """
import multiprocessing, os
import gymnasium as gym, numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

second = multiprocessing.current_process().name == "pgrun-worker-1" or os.environ.get("RANK") == "1"

class Late(CartPoleEnv):
    t = 0
    def step(self, action):
        self.t += 1
        obs, reward, *rest = super().step(action)
        if second and self.t == 40:
            reward = HOW
        return (obs, reward, *rest)

gym.register("Late-v0", Late, max_episode_steps=50)
"""


@contextmanager
def started(folder, *words, launcher=(sys.executable,)):
    """A run in the background; -> the process and what tells which processes of the run there are."""
    mark = f"PGRUN_MARK={uuid.uuid4().hex}"
    key, value = mark.split("=")

    def there():
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(key) == value and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    env = {**os.environ, "OMP_NUM_THREADS": "1", key: value}
    command = [*launcher, "-m", "pgrun", *words, "hydra.run.dir=run"]
    with open(folder / "out.txt", "w") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process, there
    finally:
        for left in there():
            left.kill()
        process.wait()


def until(done, process, seconds=90):
    deadline = time.monotonic() + seconds
    while not done():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def none_left(there, seconds=30):
    deadline = time.monotonic() + seconds
    while found := there():
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def said(folder):
    return [line for line in (folder / "out.txt").read_text().splitlines() if line.startswith("pgrun: ")]


def latest(folder):
    return checkpoint.load(checkpoint.latest(folder / "checkpoints"))


def without_time(state):
    """A checkpoint without what the wall clock says."""
    state = {key: x for key, x in state.items() if key not in ("wall_seconds", "sessions", "board", "config")}
    return state | {"clock": {key: state["clock"][key] for key in ("steps", "updates")}}


@pytest.mark.slow
def test_a_resumed_run_is_the_undisturbed_one_to_the_bit(tmp_path):
    words = (*WORDS, *NORMALIZED, *DDP, *EVALS)
    new_run(tmp_path / "whole", *words, "total_steps=900", "checkpoint.every=400").execute()
    whole = latest(tmp_path / "whole")
    first = checkpoint.load(min((tmp_path / "whole" / "checkpoints").glob("step_*.pt")))
    assert 400 <= first["clock"]["steps"] < 600
    assert len(first["ranks"]) == 1
    assert not same(first["ranks"][0]["generators"]["torch"], first["generators"]["torch"])
    again = new_run(tmp_path / "again", *words, "total_steps=900", "checkpoint.every=null", resume=first)
    result = again.execute()
    assert same(without_time(latest(tmp_path / "again")), without_time(whole))
    assert result["env_steps"] == whole["clock"]["steps"] >= 900


@pytest.mark.slow
def test_the_leader_logs_the_episodes_of_all(tmp_path):
    run = new_run(tmp_path, *WORDS, *DDP, *EVALS, "total_steps=700", "log.every=100")
    run.execute()
    state = latest(tmp_path)
    ended = state["clock"]["steps"] - sum(
        int(stats["lengths"].sum()) for stats in (state["collector"]["stats"], state["ranks"][0]["collector"]["stats"])
    )  # steps of episodes that are over
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert run.parts.collector.stats.count >= 15
    assert sum(run.parts.collector.stats.recent) == ended  # CartPole pays 1 a step
    assert {"loss/policy", "train/return", "policy/kl"} <= set(events.Tags()["scalars"])


@pytest.mark.slow
def test_a_run_that_reached_its_return_ends_when_it_is_resumed(tmp_path):
    words = (*WORDS, *DDP, "total_steps=5000", "eval.every=256", "eval.final_episodes=2", "eval.stop_at=1")
    done = pgrun(*words, "hydra.run.dir=run", cwd=tmp_path)
    assert done.code == 0, done.err
    (tmp_path / "run" / "result.json").unlink()  # killed in its final evaluation
    again = pgrun("resume", "run", cwd=tmp_path)
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_compiled_steps_are_averaged_too(tmp_path):
    words = (*WORDS, *DDP, *EVALS, "total_steps=700")
    new_run(tmp_path / "eager", *words).execute()
    new_run(tmp_path / "compiled", *words, "compile=true").execute()
    eager, compiled = (latest(tmp_path / name)["algorithm"]["module"] for name in ("eager", "compiled"))
    assert all(torch.allclose(eager[key], compiled[key], atol=1e-3) for key in eager)


@pytest.mark.slow
def test_by_the_shell(tmp_path):
    done = pgrun(*WORDS, *DDP, *EVALS, "total_steps=1500", "hydra.run.dir=run", cwd=tmp_path)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "finished"
    assert len(latest(tmp_path / "run")["ranks"]) == 1


@pytest.mark.slow
def test_by_torchrun_and_resumed_without_it(tmp_path):
    words = (*WORDS, *EVALS, "total_steps=900", "checkpoint.every=400")
    with started(tmp_path, *words, launcher=TORCHRUN) as (process, there):
        assert process.wait(120) == 0, (tmp_path / "out.txt").read_text()
        none_left(there)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.txt", "run"]
    assert (tmp_path / "out.txt").read_text().count("\nppo on cartpole: ") == 1
    by_torchrun = latest(tmp_path / "run")
    new_run(tmp_path / "spawned", *words, *DDP).execute()
    spawned = {**latest(tmp_path / "spawned"), "names": by_torchrun["names"]}  # which a run in a test has not
    assert same(without_time(spawned), without_time(by_torchrun))
    done = pgrun("resume", "run", "total_steps=1200", cwd=tmp_path)
    assert done.code == 0, done.err
    assert latest(tmp_path / "run")["clock"]["steps"] >= 1200


def long(*words):
    return (*WORDS, "eval.every=null", "total_steps=100000000", "checkpoint.every=1000", *words)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(sys.executable,), TORCHRUN], ids=["alone", "torchrun"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_whole_and_goes_on(tmp_path, number, launcher):
    words = DDP if launcher is not TORCHRUN else ()
    with started(tmp_path, *long(*words), launcher=launcher) as (process, there):
        until((tmp_path / "run" / "checkpoints" / "latest.pt").exists, process)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        code = process.wait(60)
        assert code == 130 if launcher is not TORCHRUN else code != 0
        none_left(there)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "interrupted"
    assert latest(tmp_path / "run")["clock"]["steps"] == result["env_steps"]
    assert len(latest(tmp_path / "run")["ranks"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(sys.executable,), TORCHRUN], ids=["alone", "torchrun"])
def test_nothing_outlives_a_leader_or_a_launcher_that_is_killed(tmp_path, launcher):
    words = DDP if launcher is not TORCHRUN else ()
    with started(tmp_path, *long(*words), launcher=launcher) as (process, there):
        until((tmp_path / "run" / "checkpoints" / "latest.pt").exists, process)
        assert len(there()) >= 2
        process.kill()
        process.wait()
        none_left(there)


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_run(tmp_path):
    with started(tmp_path, *long(*DDP)) as (process, there):
        until((tmp_path / "run" / "checkpoints" / "latest.pt").exists, process)
        (rank,) = [p for p in there() if "--multiprocessing-fork" in p.cmdline()]
        rank.kill()
        assert process.wait(60) == 4
        none_left(there)
    (line,) = said(tmp_path)
    assert "worker 1 died (SIGKILL)" in line
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("float('nan')", 3, "pgrun: the run diverged: worker 1: the reward of environment 0 is nan"),
        ("1 / 0", 1, "pgrun: worker 1: environment 0 failed in step (ZeroDivisionError: division by zero)"),
    ],
)
def test_a_rank_that_fails_ends_the_run_with_its_reason(tmp_path, how, code, says):
    (tmp_path / "late.py").write_text(FAILING.replace("HOW", how))
    words = (*WORDS[:1], *WORDS[2:], "env=gym", "env.id=late:Late-v0", *DDP, *EVALS)
    with started(tmp_path, *words) as (process, there):
        assert process.wait(90) == code, (tmp_path / "out.txt").read_text()
        none_left(there)
    (line,) = said(tmp_path)
    assert line.startswith(says)


@pytest.mark.slow
def test_what_torchrun_asks_for_in_vain(tmp_path):
    with started(tmp_path, *WORDS, "workers=3", launcher=TORCHRUN) as (process, there):
        assert process.wait(60) != 0
        none_left(there)
    assert said(tmp_path) == ["pgrun: workers=3, but torchrun started 2 processes: leave workers out"]
    assert not (tmp_path / "run").exists()


@pytest.fixture
def launched(monkeypatch):
    for key, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(key, value)


def test_what_torchrun_adds_to_a_command_line(launched):
    assert torchrun.completed(["algo=ppo"]) == ["algo=ppo", "parallel=ddp", "workers=2"]
    assert torchrun.completed(["workers=2", "parallel=ddp"]) == ["workers=2", "parallel=ddp"]
    assert torchrun.completed(["resume", "run"]) == ["resume", "run"]
    for wrong in (["workers=4"], ["parallel=async"], ["-m", "seed=1,2"], ["+sweep=ppo"]):
        with pytest.raises(UserError):
            torchrun.completed(wrong)


def test_processes_of_a_launcher_without_ddp_are_refused(launched):
    with pytest.raises(UserError, match="torchrun started 2 processes, and this run is of one"):
        new_run(None, *WORDS)
    with pytest.raises(UserError, match="use torchrun --nproc-per-node=4"):
        new_run(None, *WORDS, "parallel=ddp", "workers=4")


def test_one_worker_is_a_process_alone(tmp_path):
    words = (*WORDS, *EVALS, "total_steps=400")
    new_run(tmp_path / "ddp", *words, "parallel=ddp").execute()
    new_run(tmp_path / "none", *words).execute()
    assert same(without_time(latest(tmp_path / "ddp")), without_time(latest(tmp_path / "none")))
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_of_three_the_one_that_was_killed_is_named(tmp_path):
    words = ("parallel=ddp", "workers=3", "env.num_envs=6", "algo.minibatch=60")
    with started(tmp_path, *long(*words)) as (process, there):
        until((tmp_path / "run" / "checkpoints" / "latest.pt").exists, process)
        ranks = [p for p in there() if "--multiprocessing-fork" in p.cmdline()]
        max(ranks, key=lambda p: p.pid).kill()
        assert process.wait(60) == 4
        none_left(there)
    (line,) = said(tmp_path)
    assert "worker 2 died (SIGKILL)" in line
