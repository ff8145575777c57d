"""The measurements on a GPU: what they run, print and write; tried on the CPU."""

import csv
import shlex
import sys

import gpu_offpolicy
import gpu_ppo
import gpu_runs
import pytest
import torch
from running import compose

PEER = shlex.join([sys.executable, "-c", "print('hello'); print('{\"sps\": 12.5, \"to475\": 3}')"])


def started(monkeypatch, script, *words):
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, words)])
    return script.main()


def rows(path):
    return list(csv.DictReader(path.open()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("script", [gpu_ppo, gpu_offpolicy])
def test_without_a_gpu_it_is_one_line(script, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        started(monkeypatch, script, "--out", tmp_path / "x.csv")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "torch sees no GPU here; --device cpu tries the script without one\n"
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("script", [gpu_ppo, gpu_offpolicy])
def test_what_is_run_on_a_gpu_can_be_composed(script, monkeypatch, tmp_path):
    """Every line that it would run is one that pgrun takes."""
    asked = []
    monkeypatch.setattr(script, "check_device", lambda device: None)
    monkeypatch.setattr(
        script, "timed", lambda row, words, seconds, threshold=None: asked.append(words) or {"row": row}
    )
    assert started(monkeypatch, script, "--out", tmp_path / "x.csv") == 0
    assert len(asked) == 8
    for words in asked:
        config = compose(*words)
        assert (config.device, config.graph) == ("cuda", "graph=true" in words)
    assert len(rows(tmp_path / "x.csv")) == 8


def test_a_peer_s_last_line_counts(capsys, tmp_path):
    lines = [gpu_runs.peer(command, 60) for command in (PEER, "no-such-program", f"{sys.executable} -c 1")]
    assert (lines[0]["steps_per_second"], lines[0]["seconds_to_solved"]) == (12.5, 3)
    assert [("its last line is no JSON" in line["note"]) for line in lines[1:]] == [True, True]
    assert gpu_runs.finish(iter(lines), tmp_path / "x.csv") == 0
    assert [row["steps_per_second"] for row in rows(tmp_path / "x.csv")] == ["12.5", "", ""]
    assert f"| peer: {PEER} | 12.5 |  | 3 |" in capsys.readouterr().out


@pytest.mark.slow
def test_ppo_is_measured(monkeypatch, tmp_path, capsys):
    words = ("--device", "cpu", "--envs", 64, "--scale", 0.006, "--peer", PEER)
    assert started(monkeypatch, gpu_ppo, "--out", tmp_path / "x.csv", *words, "algo.minibatch=512") == 0
    whole, goal, peer = rows(tmp_path / "x.csv")
    assert float(whole["with_all"]) > 0
    assert int(whole["env_steps"]) >= 6_000
    assert goal["note"] == whole["note"] == ""
    assert peer["steps_per_second"] == "12.5"
    assert "| 64 environments, to 475 |" in capsys.readouterr().out


@pytest.mark.slow
def test_off_policy_is_measured_and_a_failure_is_a_note(monkeypatch, tmp_path):
    words = ("--device", "cpu", "--steps", 24, "--warmup", 20, "--algos", "td3")
    more = ("env=pendulum", "network.hidden=[8]")
    assert started(monkeypatch, gpu_offpolicy, "--out", tmp_path / "x.csv", *words, *more) == 0
    assert {row["row"]: row["env_steps"] for row in rows(tmp_path / "x.csv")} == {
        "td3 eager": "24",
        "td3 compiled": "24",
    }
    assert "not known" in gpu_runs.timed("wrong", ["algo=td3", "env=pendulum", "device=gpu"], 60)["note"]
    assert gpu_runs.timed("slow", ["algo=td3", "env=pendulum"], 1)["note"] == "not over after 1 s"
