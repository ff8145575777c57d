"""Checkpoint files: atomic, checked, plain."""

import errno
import os
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from running import new_run, same

from pgrun import checkpoint, randomness
from pgrun.errors import UserError

SMALL = ("network.hidden=[8]", "num_envs=2", "eval.final_episodes=1", "eval.every=null")
ALGORITHMS = {
    "reinforce": ("algo=reinforce", "total_steps=60"),
    "a2c": ("algo=a2c", "total_steps=60"),
    "ppo": (
        "algo=ppo",
        "total_steps=64",
        "algo.rollout=16",
        "algo.normalize_reward=true",
        "network.normalize_obs=true",
    ),
    "sac": ("algo=sac", "env=pendulum", "total_steps=60", "memory.warmup=20", "memory.capacity=50"),
}


class Crash(BaseException):
    """The process dies here."""


def crash(*args: object) -> None:
    raise Crash


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_loads_with_weights_only(name, tmp_path):
    run = new_run(tmp_path, *ALGORITHMS[name], *SMALL)
    run.execute()
    for file in ("latest.pt", "best.pt"):
        content = torch.load(run.checkpoints / file, weights_only=True)
        assert same(content, checkpoint.load(run.checkpoints / file))
        assert content["config"]["seed"] == 0
        assert content["algorithm"]["module"].keys() == run.parts.algorithm.state_dict().keys()
    content = checkpoint.load(run.checkpoints / "latest.pt")
    assert content["clock"]["steps"] == run.clock.steps
    if name == "sac":
        assert content["memory"]["ring"]["valid"].shape == (50,)
    assert "memory" not in checkpoint.load(run.checkpoints / "best.pt")


def test_save_and_load(tmp_path):
    content = {"a": torch.arange(3), "b": [1, 2.5, "x", None, True]}
    checkpoint.save(tmp_path / "new" / "step_1.pt", content)
    got = checkpoint.load(tmp_path / "new" / "step_1.pt")
    assert got.pop("format") == checkpoint.FORMAT
    assert same(got, content)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["step_1.pt", "step_1.pt.sha256"]
    checked = subprocess.run(["sha256sum", "-c", "step_1.pt.sha256"], cwd=tmp_path / "new", capture_output=True)
    assert checked.returncode == 0


@pytest.mark.parametrize("renames", range(4))
def test_a_crash_leaves_the_old_file_or_the_new_one(renames, tmp_path, monkeypatch):
    path, rename = tmp_path / "best.pt", os.replace
    checkpoint.save(path, {"n": 1})
    done: list[object] = []

    def dying(source: object, target: object) -> None:
        if len(done) == renames:
            raise Crash
        done.append(target)
        rename(source, target)

    monkeypatch.setattr(os, "replace", dying)
    if renames < 3:  # the sums, the file, the sums
        with pytest.raises(Crash):
            checkpoint.save(path, {"n": 2})
    else:
        checkpoint.save(path, {"n": 2})
    monkeypatch.undo()
    assert checkpoint.load(path)["n"] == (1 if renames < 2 else 2)
    checkpoint.save(path, {"n": 3})
    assert checkpoint.load(path)["n"] == 3
    assert len(Path(f"{path}.sha256").read_text().splitlines()) == 1


def test_a_crash_while_the_first_file_is_written_leaves_none(tmp_path, monkeypatch):
    path = tmp_path / "step_1.pt"
    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(Crash):
        checkpoint.save(path, {"n": 1})
    monkeypatch.undo()
    assert not path.exists()
    checkpoint.save(tmp_path / "step_2.pt", {"n": 2})
    checkpoint.prune(tmp_path, 3)
    assert not list(tmp_path.glob(".*.tmp"))  # what the crash left


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "step_1.pt"
    checkpoint.save(path, {"n": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        checkpoint.save(path, {"n": 2})
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert checkpoint.load(path)["n"] == 1
    assert not list(tmp_path.glob(".*.tmp"))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("damage", ["flipped", "cut", "cut without a sum", "empty", "text", "foreign"])
def test_what_is_no_checkpoint_is_refused_with_the_older_one(damage, tmp_path):
    for n in (5, 20, 100):
        checkpoint.save(tmp_path / f"step_{n}.pt", {"n": n})
    path = tmp_path / "step_100.pt"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "foreign":
        torch.save({"weights": torch.ones(2)}, path)
        Path(f"{path}.sha256").unlink()
        assert "format" in refusal(path)
        return
    else:
        path.write_bytes({"empty": b"", "text": b"hello\n"}.get(damage, bytes(data[: len(data) // 2])))
        if damage != "cut":
            Path(f"{path}.sha256").unlink()
    line = refusal(path)
    assert str(path) in line
    assert f"--checkpoint {tmp_path / 'step_20.pt'}" in line


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"format": checkpoint.FORMAT, "x": Evil()}, tmp_path / "step_1.pt")
    assert "no checkpoint" in refusal(tmp_path / "step_1.pt")
    assert not (tmp_path / "owned").exists()


def test_a_missing_checkpoint(tmp_path):
    assert "there is no checkpoint" in refusal(tmp_path / "step_1.pt")
    assert "there is no checkpoint" in refusal(tmp_path)


def write(folder: Path, n: int) -> None:
    checkpoint.save(folder / f"step_{n}.pt", {"n": n})
    checkpoint.point(folder / "latest.pt", f"step_{n}.pt")


def steps(folder: Path) -> list[int]:
    return sorted(int(path.stem[5:]) for path in folder.glob("step_*.pt"))


def test_prune_keeps_the_newest_and_their_sums(tmp_path):
    for n in (900, 1000, 1100, 20000):
        write(tmp_path, n)
        checkpoint.prune(tmp_path, 2)
    checkpoint.save(tmp_path / "best.pt", {"n": 0})
    checkpoint.prune(tmp_path, 2)
    assert steps(tmp_path) == [1100, 20000]
    assert sorted(path.name for path in tmp_path.glob("*.sha256")) == [
        "best.pt.sha256",
        "step_1100.pt.sha256",
        "step_20000.pt.sha256",
    ]
    assert checkpoint.load(tmp_path / "latest.pt")["n"] == 20000


def test_prune_keeps_what_was_written_last_after_going_back(tmp_path):
    for n in (100, 200, 300):
        write(tmp_path, n)
    for n in (150, 250):  # resumed from step 100
        write(tmp_path, n)
        checkpoint.prune(tmp_path, 2)
        assert checkpoint.load(tmp_path / "latest.pt")["n"] == n
    assert steps(tmp_path) == [150, 250]


def test_latest_without_its_link(tmp_path):
    assert not checkpoint.latest(tmp_path).exists()
    for n in (900, 1000):
        write(tmp_path, n)
    assert checkpoint.latest(tmp_path) == tmp_path / "latest.pt"
    (tmp_path / "latest.pt").unlink()  # a crash between the file and the link, or a copy that dropped it
    assert checkpoint.load(checkpoint.latest(tmp_path))["n"] == 1000


def test_a_run_keeps_so_many_and_the_best(tmp_path):
    run = new_run(
        *(tmp_path, "total_steps=400", "algo.rollout=16", "checkpoint.every=32", "checkpoint.keep=2", *SMALL),
        *("eval.every=100", "eval.episodes=2", "env.backend=sync"),
    )
    result = run.execute()
    assert len(steps(run.checkpoints)) == 2
    assert os.readlink(run.checkpoints / "latest.pt") == f"step_{run.clock.steps}.pt"
    assert run.evaluation.best == result["best_eval_return_mean"]
    assert checkpoint.load(run.checkpoints / "best.pt")["clock"]["steps"] <= run.clock.steps


def test_a_run_on_a_full_disk_fails_in_one_line_and_closes(tmp_path, monkeypatch):
    run = new_run(tmp_path, "total_steps=64", "algo.rollout=16", *SMALL)

    def full(*args: object) -> None:
        raise UserError("can't write the checkpoint: No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(UserError, match="No space left"):
        run.execute()
    assert '"failed"' in (tmp_path / "result.json").read_text()


def test_a_failing_final_evaluation_is_a_failed_run_that_can_go_on(tmp_path, monkeypatch):
    overrides = ("total_steps=64", "algo.rollout=16", *SMALL)
    run = new_run(tmp_path, *overrides)

    def broken() -> None:
        raise RuntimeError("the simulator crashed")

    monkeypatch.setattr(run, "final_evaluation", broken)
    with pytest.raises(RuntimeError, match="simulator"):
        run.execute()
    assert '"failed"' in (tmp_path / "result.json").read_text()
    again = new_run(tmp_path, *overrides, resume=checkpoint.load(run.checkpoints / "latest.pt"))
    result = again.execute()
    assert (result["status"], result["env_steps"], result["eval_episodes"]) == ("finished", run.clock.steps, 1)


def test_ctrl_c_in_the_final_evaluation_is_an_interruption(tmp_path, monkeypatch):
    run = new_run(tmp_path, "total_steps=64", "algo.rollout=16", *SMALL)

    def pressed() -> None:
        os.kill(os.getpid(), 2)

    monkeypatch.setattr(run, "final_evaluation", pressed)
    assert run.execute()["status"] == "interrupted"
    assert (run.checkpoints / "latest.pt").exists()


@pytest.mark.parametrize("number", [2, 15])
def test_signals_stop_after_the_update_and_twice_at_once(number, tmp_path, monkeypatch):
    run = new_run(tmp_path, "total_steps=6400", "algo.rollout=16", *SMALL)
    update, calls = run.parts.algorithm.update, []

    def signalled(batch):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return update(batch)

    monkeypatch.setattr(run.parts.algorithm, "update", signalled)
    result = run.execute()
    assert (result["status"], result["updates"]) == ("interrupted", 3)
    assert checkpoint.load(run.checkpoints / "latest.pt")["clock"]["updates"] == 3

    twice = new_run(tmp_path / "twice", "total_steps=6400", "algo.rollout=16", *SMALL)

    def hanging(batch):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        raise AssertionError("the second signal should have ended this")

    monkeypatch.setattr(twice.parts.algorithm, "update", hanging)
    assert twice.execute()["status"] == "interrupted"
    assert '"interrupted"' in (tmp_path / "twice" / "result.json").read_text()


def test_generators_come_back():
    randomness.seed_generators(3)
    np.random.standard_normal()  # leaves a cached second draw
    state = randomness.generators()
    want = (torch.randn(3), np.random.standard_normal(3).tolist(), random.random())
    randomness.seed_generators(4)
    randomness.restore_generators(state)
    got = (torch.randn(3), np.random.standard_normal(3).tolist(), random.random())
    assert same(want, got)
