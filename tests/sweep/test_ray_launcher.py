"""A sweep over two nodes of a Ray cluster, both on this machine."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from shell import free_port, pgrun, pgrun_inside
from sweeping import alive, assert_none_left, results, wait_for

from pgrun.errors import UserError
from pgrun.parallel.ray import connection
from pgrun.sweep.launchers.ray import RayLauncher

RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A head and a second node with one CPU each, in processes of their own; -> the address, and what names them."""
    port, dashboard = free_port(), free_port()
    address = f"127.0.0.1:{port}"
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}
    own |= {"PGRUN_TEST": str(tmp_path), "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    without = {k: v for k, v in {**os.environ, **own}.items() if k != "RAY_ADDRESS"}
    log = (tmp_path / "ray.log").open("w")
    start = [RAY, "start", "--block", "--num-cpus=1"]
    head = [*start, "--head", f"--port={port}", f"--dashboard-port={dashboard}", "--include-dashboard=true"]
    nodes = [subprocess.Popen(head, env=without, stdout=log, stderr=log)]
    try:
        wait_for(lambda: len(state("nodes", own)) == 1, 90)
        nodes.append(subprocess.Popen([*start, f"--address={address}"], env=without, stdout=log, stderr=log))
        wait_for(lambda: len(state("nodes", own)) == 2, 90)
        yield address, own
    finally:
        for node in reversed(nodes):
            node.send_signal(signal.SIGTERM)
        for node in nodes:
            node.wait(timeout=60)
        assert_none_left(tmp_path, 60)


def state(what: str, own: dict[str, str]) -> list[dict[str, Any]]:
    """List Ray's nodes or tasks, as its own command does."""
    command = [RAY, "list", what, "--detail", "--format", "json", "--limit", "1000"]
    said = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=60)
    return json.loads(said.stdout) if said.returncode == 0 and said.stdout.strip().startswith("[") else []


@pytest.mark.slow
def test_spread_over_two_nodes(cluster: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, own = cluster
    line = ["+sweep=ray", "seed=range(6)", "total_steps=6000", "eval.final_episodes=2"]
    own = {k: v for k, v in own.items() if k != "RAY_ADDRESS"}
    said = pgrun(*line, f"hydra.launcher.address={address}", cwd=tmp_path, **own)
    assert said.code == 0, said.err
    assert [result["status"] for result in results(tmp_path).values()] == ["finished"] * 6
    tasks = state("tasks", cluster[1])
    assert sorted(task["name"] for task in tasks) == [f"pgrun {i}_seed={i}" for i in range(6)]
    assert len({task["node_id"] for task in tasks}) == 2
    assert all(task["state"] == "FINISHED" for task in tasks)
    assert [
        line for line in alive(tmp_path) if "pgrun" in line.split("--")[0]
    ] == []  # the cluster stays, its workers go


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    said = pgrun_inside("+sweep=ray", "seed=0,1", f"hydra.launcher.address={address}", cwd=tmp_path)
    assert said.code == 2
    assert said.line == f"pgrun: hydra.launcher.address={address}: no Ray answers there (Connection refused)"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cpus", "gpus", "fits"), [(2, 0, True), (8, 0, True), (1, 0.5, True), (9, 0, False), (8, 1, False)]
)
def test_a_job_that_no_node_has_room_for(cpus: float, gpus: float, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    monkeypatch.setattr(connection, "connect", lambda *_: None)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 10.0})
    launcher = RayLauncher("auto", None, cpus, gpus, 0)
    if fits:
        launcher.open(3)
        assert launcher.parallel == min(3, 10 // cpus)
    else:
        with pytest.raises(UserError, match="2 CPUs and 1 GPUs or 8 CPUs and 0 GPUs"):
            launcher.open(3)


def test_a_ray_of_its_own_has_room_for_every_job(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    monkeypatch.setattr(connection, "connect", lambda address, cpus, key: started.append(cpus))
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": float(started[0])}}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": float(started[0])})
    RayLauncher(None, 1, 1.4, 0, 0).open(1)
    assert started == [2]


@pytest.mark.slow
def test_a_job_too_large_leaves_nothing(tmp_path: Path) -> None:
    said = pgrun("+sweep=ray", "seed=0,1", "hydra.launcher.gpus_per_job=99", cwd=tmp_path)
    assert said.code == 2
    assert "gpus_per_job=99: no node of Ray's has as many" in said.line
    assert list(tmp_path.iterdir()) == []
