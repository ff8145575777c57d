"""Checkpoints: checked, plain; and how runs end that write them."""

import hashlib
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from running import new_run, same

from pgrun.errors import UserError
from pgrun.run import checkpoint
from pgrun.system import randomness

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


def save(path: Path, content: dict) -> None:
    """A checkpoint that no run has listed, with its sum."""
    data = checkpoint.dump(content)
    path.write_bytes(data)
    Path(f"{path}.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")


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


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("damage", ["flipped", "cut", "cut without a sum", "empty", "text", "foreign"])
def test_what_is_no_checkpoint_is_refused_with_the_older_one(damage, tmp_path):
    for n in (5, 20, 100):
        save(tmp_path / f"step_{n}.pt", {"n": n})
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


def steps(folder: Path) -> list[int]:
    return sorted(int(path.stem[5:]) for path in folder.glob("step_*.pt"))


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

    monkeypatch.setattr(run.written, "write", full)
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
    update, calls = run.parts.update, []

    def signalled(batch):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return update(batch)

    monkeypatch.setattr(run.parts, "update", signalled)
    result = run.execute()
    assert (result["status"], result["updates"]) == ("interrupted", 3)
    assert checkpoint.load(run.checkpoints / "latest.pt")["clock"]["updates"] == 3

    twice = new_run(tmp_path / "twice", "total_steps=6400", "algo.rollout=16", *SMALL)

    def hanging(batch):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), 2)  # of later ones only Ctrl-C is another's wish
        raise AssertionError("the second signal should have ended this")

    monkeypatch.setattr(twice.parts, "update", hanging)
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
