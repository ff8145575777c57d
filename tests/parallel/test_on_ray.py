"""Workers on Ray and their chief: DPPO as whole runs. The chief's own rounds are in test_chief.py."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import psutil
import pytest
from running import new_run, parts, same
from shell import free_port, pgrun

from pgrun.errors import Lost, UserError
from pgrun.parallel.ray import actors as crew
from pgrun.parallel.ray import team as on_ray
from pgrun.run import checkpoint
from pgrun.run.changes import change
from pgrun.run.resuming import RESUMABLE

SMALL = ("algo=dppo", "env=cartpole", "num_envs=4", "network.hidden=[16]", "algo.rollout=64", "algo.policy_substeps=4",
         "algo.critic_fit.epochs=3", "eval.final_episodes=2", "eval.every=null")  # fmt: skip
SLOW = ("collector._target_=dppo_stragglers.SlowRollouts", "+collector.factor=10")


@pytest.fixture(scope="module")
def ray():
    """One Ray for this file's runs, which they find already there."""
    with crew.cluster(None, 3, 1):
        yield


@pytest.fixture
def seen(monkeypatch):
    """Collect the chief's reports on the workers, one after each of the leader's updates."""
    statuses = []
    report = crew.RayActors.report
    monkeypatch.setattr(crew.RayActors, "report", lambda self, status: (statuses.append(status), report(self, status)))
    return statuses


def content(folder):
    return checkpoint.load(folder / "checkpoints" / "latest.pt")


def steps_kept(folder):
    return [int(path.stem.removeprefix("step_")) for path in (folder / "checkpoints").glob("step_*.pt")]


def result(folder):
    return json.loads((folder / "result.json").read_text())


def actors(name):
    """The processes of this test's actors of a class."""
    return [p for p in psutil.Process().children(recursive=True) if p.name().startswith(f"ray::{name}")]


@contextmanager
def at_update(monkeypatch, n, do):
    """Do something, once, after the leader's n-th update."""
    watch, count = crew.RayActors.watch, []

    def watched(self, clock, metrics):
        count.append(1)
        if len(count) == n:
            do()
        watch(self, clock, metrics)

    monkeypatch.setattr(crew.RayActors, "watch", watched)
    yield


@pytest.mark.parametrize(
    ("algo", "optimizer"),
    [("dppo", "adam"), pytest.param("ppo", "rmsprop", marks=pytest.mark.slow)],
)
def test_one_worker_is_a_process_alone_bit_for_bit(ray, tmp_path, algo, optimizer):
    words = (
        *SMALL[1:5], *SMALL[-2:], f"algo={algo}", f"optimizer={optimizer}", "workers=1", "total_steps=1500",
        "algo.normalize_reward=true", "network.normalize_obs=true", "optimizer.schedule=linear",
        "algo.max_grad_norm=0.3",
    )  # fmt: skip
    new_run(tmp_path / "alone", *words, "parallel=none").execute()
    new_run(tmp_path / "chief", *words, "parallel=ray").execute()
    alone, chief = content(tmp_path / "alone"), content(tmp_path / "chief")
    assert same(alone["algorithm"], chief["algorithm"])
    assert same(alone["generators"], chief["generators"])
    assert same({**alone["clock"], "seconds": 0}, {**chief["clock"], "seconds": 0})


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_what_the_chief_held(ray, tmp_path):
    words = (*SMALL, "workers=1", "checkpoint.every=500", "checkpoint.keep=10", "total_steps=1500")
    new_run(tmp_path / "whole", *words).execute()
    first = tmp_path / "whole" / "checkpoints" / f"step_{min(steps_kept(tmp_path / 'whole'))}.pt"
    new_run(tmp_path / "again", *words, resume=checkpoint.load(first)).execute()
    assert same(content(tmp_path / "whole")["algorithm"], content(tmp_path / "again")["algorithm"])


@pytest.mark.slow
def test_two_workers_learn_together(ray, tmp_path, seen):
    new_run(tmp_path, *SMALL, "workers=2", "total_steps=3000", "network.normalize_obs=true").execute()
    assert seen[0]["alive"] == [0, 1]
    last = seen[-1]
    assert last["dropped"] == {0: 0, 1: 0}
    steps = last["taken"]["policy_step"] + last["taken"]["value_step"]
    assert steps > 20
    assert sum(last["received"].values()) == pytest.approx(2 * steps, abs=2)
    state = content(tmp_path)
    counts = [float(x) for key, x in state["algorithm"]["module"].items() if key.endswith(".count")]
    assert state["clock"]["steps"] >= 3000
    assert counts
    assert min(counts) > 0.7 * state["clock"]["steps"]  # rows of both workers
    ended = result(tmp_path)
    assert ended["status"] == "finished"
    assert (ended["env_steps"], ended["updates"]) == (state["clock"]["steps"], state["clock"]["updates"])


@pytest.mark.slow
def test_a_slow_worker_is_not_waited_for(ray, tmp_path, seen, caplog, monkeypatch):
    """W = 3, D = 2: while one sleeps the others go on, and what it sends late is dropped and told of."""
    caplog.set_level(logging.INFO, "pgrun")
    counted, tell = [], crew.RayActors.tell_dropped
    monkeypatch.setattr(
        crew.RayActors, "tell_dropped", lambda self, status: (counted.append(status), tell(self, status))
    )
    words = (*SMALL, *SLOW, "workers=3", "parallel.wait_for=2", "total_steps=6000")
    new_run(tmp_path, *words, "+collector.slow_rank=2").execute()
    last = seen[-1]
    assert not any(last["ended"].values())
    assert last["received"][2] < 0.6 * last["received"][1]
    assert last["dropped"][2] > 0
    dropped = counted[-1]["dropped"][2]  # after the last update one more may have come
    assert dropped >= last["dropped"][2]
    assert f"worker 2 {dropped}" in caplog.text.splitlines()[-1]


@pytest.mark.slow
def test_a_killed_worker_is_told_of_and_the_run_goes_on(ray, tmp_path, seen, caplog, monkeypatch):
    def kill():
        actors("RayWorker")[0].send_signal(signal.SIGKILL)

    with at_update(monkeypatch, 3, kill):
        new_run(tmp_path, *SMALL, "workers=3", "total_steps=8000").execute()
    assert result(tmp_path)["status"] == "finished"
    assert len(seen[0]["alive"]) == 3
    assert len([why for why in seen[-1]["ended"].values() if why]) == 1  # the other may have done its work by then
    told = [line for line in caplog.messages if "ended" in line]
    assert len(told) == 1
    assert "its process died" in told[0]
    assert "going on with 2" in told[0]


@pytest.mark.slow
def test_an_exception_in_a_worker_shows_its_own_line(ray, tmp_path, caplog):
    words = (*SMALL, "workers=2", "total_steps=2000", "collector._target_=breaking_rollouts.Broken")
    new_run(tmp_path, *words).execute()
    assert result(tmp_path)["status"] == "finished"
    told = [line for line in caplog.messages if "ended" in line]
    assert told == ["worker 1 ended (ZeroDivisionError: a simulator's own message); going on with 1"]


@pytest.mark.slow
def test_without_its_chief_a_run_ends_with_one_line(ray, tmp_path, monkeypatch):
    def kill():
        actors("RayChief")[0].send_signal(signal.SIGKILL)

    run = new_run(tmp_path, *SMALL, "workers=2", "total_steps=50_000", "checkpoint.every=500")
    with at_update(monkeypatch, 4, kill), pytest.raises(Lost, match="the chief"):
        run.execute()
    assert result(tmp_path)["status"] == "failed"
    assert 0 < content(tmp_path)["clock"]["steps"] < 50_000


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("parallel.wait_for=3",), r"parallel\.wait_for=3 gradients never come from workers=2"),
        (("optimizer=kfac",), "KFAC asks for more"),
        (("algo/critic_fit=trust_region",), "parallel=ray can't share"),
    ],
)
def test_what_the_chief_can_not_do_is_refused(overrides, says):
    with pytest.raises(UserError, match=says):
        parts("algo=dppo", "env=cartpole", *overrides)


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(on_ray.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'pgrun\[ray\]'"):
        parts(*SMALL)
    parts(*SMALL, "parallel=none", "workers=1")


def descendants(process):
    return [process, *process.children(recursive=True)]


def all_gone(processes, seconds):
    """Whether none of these is left, or will be in a while."""
    _, left = psutil.wait_procs(processes, timeout=seconds)
    return [p for p in left if p.status() != psutil.STATUS_ZOMBIE] == []


@contextmanager
def started(folder, *overrides):
    """A run from the shell that has written its first checkpoint, in a process group of its own."""
    words = [*SMALL, "workers=2", "total_steps=10_000_000", "checkpoint.every=500", *overrides]
    command = [sys.executable, "-m", "pgrun", *words, f"hydra.run.dir={folder / 'run'}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env.pop("RAY_AUTH_MODE", None)  # this process's own Ray leaves it there
    process = subprocess.Popen(command, cwd=folder, env=env, start_new_session=True, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (folder / "run" / "checkpoints" / "latest.pt").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGINT to all", "SIGTERM", "SIGKILL"])
def test_no_process_outlives_a_run(tmp_path, how):
    with started(tmp_path) as process:
        family = descendants(psutil.Process(process.pid))
        assert any(p.name().startswith("ray::RayWorker") for p in family)
        if how == "SIGINT to all":  # Ctrl-C in a terminal
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.Signals[how])
        _, err = process.communicate(timeout=60)
        assert all_gone(family, 120)  # after SIGKILL, Ray's own agents look only now and then whether they are orphans
    if how != "SIGKILL":
        assert process.returncode == 130
        assert "go on with: pgrun resume" in err
        assert "Traceback" not in err


@pytest.mark.slow
def test_the_terminal_shows_nothing_of_rays(tmp_path):
    said = pgrun(*SMALL, "workers=2", "total_steps=2000", cwd=tmp_path)
    assert said.code == 0
    assert "2 workers on this machine; 2 gradients a step" in said.err
    assert "ray" not in (said.out + said.err).lower().replace(str(tmp_path).lower(), "")


@contextmanager
def two_nodes():
    """A Ray cluster of two nodes on this machine, each with one CPU; -> its address."""
    address, port = f"127.0.0.1:{free_port()}", free_port()
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--disable-usage-stats",
             "--node-ip-address=127.0.0.1"]  # fmt: skip
    heads = [[*start, "--head", f"--port={address.partition(':')[2]}", "--include-dashboard=true",
              f"--dashboard-port={port}"], [*start, f"--address={address}"]]  # fmt: skip
    nodes = []
    try:
        for command in heads:
            env = {**os.environ, "RAY_AUTH_MODE": "disabled"}
            node = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            nodes.append(node)
            assert any("Ray runtime started" in line for line in node.stdout)
        yield address
    finally:
        family = [p for node in nodes if node.poll() is None for p in descendants(psutil.Process(node.pid))]
        for process in reversed(family):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for node in nodes:
            node.wait()


STATE = """
import json, sys, ray
from ray.util.state import list_actors
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
alive = [a for a in list_actors() if a.state == "ALIVE"]
print(json.dumps([[a.class_name, a.node_id, a.pid] for a in alive]))
"""


@pytest.mark.slow
def test_a_run_spreads_over_the_nodes_of_a_cluster(tmp_path):
    """Two nodes of one CPU each, a leader and two workers: Ray's own state says who is where."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    with two_nodes() as address:
        with started(tmp_path, "workers=3", f"parallel.address={address}") as process:
            said = subprocess.run(
                [sys.executable, "-c", STATE, address], env=environment, capture_output=True, text=True
            )
            actors = json.loads(said.stdout.splitlines()[-1])
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 130, err
        workers = [(node, pid) for name, node, pid in actors if name == "RayWorker"]
        assert len({node for node, _ in workers}) == 2
        assert sorted(name for name, _, _ in actors) == ["RayChief", "RayWorker", "RayWorker"]
        assert all_gone([psutil.Process(pid) for _, _, pid in actors if psutil.pid_exists(pid)], 30)
        rays = subprocess.run([sys.executable, "-c", STATE, address], env=environment, capture_output=True, text=True)
        assert json.loads(rays.stdout.splitlines()[-1]) == []  # the cluster is still there, and empty
    assert content(tmp_path / "run")["clock"]["steps"] > 0


def test_a_run_may_go_on_at_another_address(tmp_path):
    config = new_run(tmp_path, *SMALL, "workers=1", "total_steps=300").config
    on_resume = RESUMABLE, "when a run is resumed"
    moved = change(config, ["parallel.address=10.0.0.2:6379", "parallel.cpus=2"], *on_resume)
    assert (moved.parallel.address, moved.parallel.cpus) == ("10.0.0.2:6379", 2)
    with pytest.raises(UserError, match=r"parallel\.wait_for can't change"):
        change(config, ["parallel.wait_for=1"], *on_resume)
