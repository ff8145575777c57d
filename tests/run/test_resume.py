"""A run that is stopped and resumed ends as the undisturbed one, bit for bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from recipes import sampled
from resumable import PPO, RUNS, finish, outcome
from running import compose, new_run, same
from shell import pgrun_inside
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pgrun.run import checkpoint
from pgrun.run.directory import hydra_of, load_run, remember
from pgrun.run.run import Run
from pgrun.shell.cli import main

# of each kind of update, memory, collector and backend; the others are for the longer tests
QUICK = ("reinforce", "ppo with a memory", "dqn by priority")


@pytest.mark.parametrize("name", sampled(list(RUNS), QUICK))
def test_resuming_at_any_checkpoint_changes_nothing(name, tmp_path):
    overrides = RUNS[name]
    whole = new_run(tmp_path / "whole", *overrides)
    want = finish(whole)
    steps = sorted(whole.checkpoints.glob("step_*.pt"), key=lambda path: int(path.stem[5:]))
    assert len(steps) >= 3
    assert want["collector"]["env"] is not None
    for path in steps[:-1]:
        state = checkpoint.load(path)
        got = finish(new_run(tmp_path / path.stem, *overrides, resume=state))
        different = [key for key in want if not same(want[key], got[key])]
        assert not different, f"{different} differ after a resume at {path.name}"


def test_the_comparison_sees_another_seed(tmp_path):
    assert not same(finish(new_run(tmp_path / "a", *PPO)), finish(new_run(tmp_path / "b", *PPO, "seed=1")))


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar curve as TensorBoard shows it, times left out."""
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=True)
    board.Reload()
    tags = [tag for tag in board.Tags()["scalars"] if not tag.startswith(("time/", "final/"))]
    return {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in tags}


def timed_steps(folder: Path) -> list[int]:
    """The steps of the curve time/steps_per_second."""
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return [event.step for event in board.Scalars("time/steps_per_second")]


def test_curves_go_on_where_they_were(tmp_path):
    # log.every does not divide checkpoint.every, so that the point after the resume averages updates before it
    overrides = (*PPO, "log.every=300")
    whole = new_run(tmp_path / "whole", *overrides)
    finish(whole)
    for path in list(whole.checkpoints.glob("step_*.pt")):
        folder = tmp_path / path.stem
        shutil.copytree(tmp_path / "whole", folder)  # as if killed at the very end: every point after it is there twice
        finish(new_run(folder, *overrides, resume=checkpoint.load(path)))
        assert curves(folder) == curves(tmp_path / "whole")
        assert timed_steps(folder) == timed_steps(tmp_path / "whole")


def test_an_evaluation_that_no_checkpoint_knows_of_has_one_point(tmp_path, monkeypatch):
    """Killed between the flush of the curves and the checkpoint that would have known of the evaluation."""
    overrides = (*PPO, "eval.every=128", "checkpoint.every=128", "checkpoint.keep=20")
    with monkeypatch.context() as patched:
        patched.setattr(Run, "complete", lambda self, clock, metrics: None)
        whole = new_run(tmp_path / "whole", *overrides)
        finish(whole)
    again = 0
    for path in whole.checkpoints.glob("step_*.pt"):
        state = checkpoint.load(path)
        again += state["evaluation"]["latest_at"] != state["clock"]["steps"]
        shutil.copytree(tmp_path / "whole", tmp_path / path.stem)
        finish(new_run(tmp_path / path.stem, *overrides, resume=state))
        assert curves(tmp_path / path.stem) == curves(tmp_path / "whole")
    assert again > 1


def test_curves_of_a_run_that_starts_over(tmp_path):
    finish(new_run(tmp_path / "whole", *PPO))
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    finish(new_run(tmp_path / "again", *PPO))  # killed before its first checkpoint
    assert curves(tmp_path / "again") == curves(tmp_path / "whole")


def test_a_torn_event_file_is_no_obstacle(tmp_path):
    whole = new_run(tmp_path / "whole", *PPO)
    finish(whole)
    path = sorted(whole.checkpoints.glob("step_*.pt"), key=lambda path: int(path.stem[5:]))[1]
    folder = tmp_path / "torn"
    shutil.copytree(tmp_path / "whole", folder)
    (events,) = folder.glob("events.*")
    events.write_bytes(events.read_bytes()[:-7])
    finish(new_run(folder, *PPO, resume=checkpoint.load(path)))
    assert curves(folder) == curves(tmp_path / "whole")


def test_each_step_has_one_evaluation(tmp_path):
    run = new_run(tmp_path, *PPO, "eval.every=128")  # the last evaluation falls on the last step
    finish(run)
    steps = [step for step, _ in curves(tmp_path)["eval/return"]]
    assert len(steps) == len(set(steps))
    assert run.clock.steps in steps


def test_no_checkpoint_has_trained_for_less_than_no_time(tmp_path):
    run = new_run(tmp_path, *PPO, "eval.every=64", "eval.episodes=20")  # evaluations that take longer than training
    finish(run)
    for path in run.checkpoints.glob("step_*.pt"):
        assert min(checkpoint.load(path)["clock"]["seconds"].values()) >= 0.0


def test_wall_seconds_add_up_and_rates_do_not(tmp_path):
    first = new_run(tmp_path / "a", *PPO)
    first.sessions.begin -= 100.0  # as if it had taken so much longer
    finish(first)
    state = checkpoint.load(sorted(first.checkpoints.glob("step_*.pt"))[0])
    second = new_run(tmp_path / "b", *PPO, resume=state)
    result = second.execute()
    earlier, latest = (session["wall_seconds"] for session in result["sessions"])
    assert earlier > 100.0
    assert result["wall_seconds"] == pytest.approx(earlier + latest, abs=2e-3)
    assert result["steps_per_second"] > result["env_steps"] / 100.0  # those 100 s were no training


def test_a_world_without_state_starts_fresh_episodes(tmp_path, caplog):
    overrides = (*PPO, "env=lunar_lander", "total_steps=256")
    finish(new_run(tmp_path / "a", *overrides))
    state = checkpoint.load(tmp_path / "a" / "checkpoints" / "step_128.pt")
    assert state["collector"]["env"] is None
    with caplog.at_level("INFO", logger="pgrun"):
        run = new_run(tmp_path / "b", *overrides, resume=state)
        end = finish(run)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "start fresh episodes" in line
    assert "LunarLander.world is a b2World" in line
    assert "\n" not in line
    assert end["clock"]["steps"] == 256


# ---- through the shell

SHELL = [sys.executable, "-m", "pgrun"]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def shell(*args: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess:
    return subprocess.run([*SHELL, *args], cwd=cwd, env=ENV, capture_output=True, text=True, timeout=timeout)


def start(*args: str, cwd: Path) -> subprocess.Popen:
    with open(cwd / "stderr.txt", "a") as errors:
        return subprocess.Popen([*SHELL, *args], cwd=cwd, env=ENV, stdout=errors, stderr=errors, start_new_session=True)


def wait_for(condition, process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it was stopped"
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


def final_state(folder: Path) -> dict:
    return outcome(checkpoint.load(folder / "checkpoints" / "latest.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "async"])
def test_ctrl_c_and_resume(backend, tmp_path):
    # the signal goes to the whole process group, as a terminal sends it
    overrides = ("total_steps=6000", "num_envs=2", "network.hidden=[16]", "eval.every=null", "eval.final_episodes=2")
    overrides = (
        *overrides,
        "checkpoint.every=1000",
        f"env.backend={backend}",
        "algo.rollout=128",
        "algo.minibatch=256",
    )
    process = start(*overrides, "hydra.run.dir=run", cwd=tmp_path)
    latest = tmp_path / "run" / "checkpoints" / "latest.pt"
    wait_for(latest.exists, process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130, (tmp_path / "stderr.txt").read_text()
    said = (tmp_path / "stderr.txt").read_text()
    assert "interrupted; go on with: pgrun resume run" in said
    assert "Traceback" not in said
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "interrupted"
    assert 1000 <= result["env_steps"] < 6000
    assert checkpoint.load(latest)["clock"]["steps"] == result["env_steps"]
    if backend == "async":
        return
    resumed = shell("resume", "run", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["algo"], result["env"]) == ("finished", "ppo", "cartpole")
    finish(new_run(tmp_path / "whole", *overrides))
    assert same(final_state(tmp_path / "run"), final_state(tmp_path / "whole"))


def test_resuming_a_finished_run(tmp_path):
    overrides = ("total_steps=512", "num_envs=2", "network.hidden=[16]", "eval.every=null", "eval.final_episodes=2")
    assert pgrun_inside(*overrides, "hydra.run.dir=run", cwd=tmp_path).code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = pgrun_inside("resume", "run", cwd=tmp_path)
    assert again.code == 0
    assert again.out.count("\n") == 1
    steps = json.loads((tmp_path / "run" / "result.json").read_text())["env_steps"]
    assert f"total_steps={1024 if steps < 1024 else 1536}\n" in again.out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    # killed during its final evaluation: the run is whole but for result.json
    (tmp_path / "run" / "result.json").unlink()
    assert pgrun_inside("resume", "run", cwd=tmp_path).code == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["env_steps"], result["eval_episodes"]) == ("finished", steps, 2)
    more = pgrun_inside("resume", "run", "total_steps=1024", cwd=tmp_path)
    assert more.code == 0, more.err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["env_steps"] >= 1024 > steps
    assert (result["command"].endswith("hydra.run.dir=run"), result["resumed_with"]) == (True, ["total_steps=1024"])
    assert load_run(tmp_path / "run")[0].total_steps == 1024


@pytest.mark.slow
def test_a_run_that_reached_its_return_is_finished(tmp_path):
    overrides = ("total_steps=4096", "num_envs=2", "network.hidden=[16]", "eval.every=256", "eval.final_episodes=2")
    assert shell(*overrides, "eval.stop_at=1", "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    before = json.loads((tmp_path / "run" / "result.json").read_text())
    assert before["env_steps"] < 4096
    again = shell("resume", "run", cwd=tmp_path)
    assert (again.returncode, "eval.stop_at" in again.stdout) == (0, True)
    (tmp_path / "run" / "result.json").unlink()  # killed in the final evaluation: no more training either
    assert shell("resume", "run", cwd=tmp_path).returncode == 0
    after = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (after["env_steps"], after["eval_return_mean"]) == (before["env_steps"], before["eval_return_mean"])
    assert shell("resume", "run", "eval.stop_at=null", cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["env_steps"] >= 4096


@pytest.mark.slow
def test_two_runs_of_one_second_get_two_directories(tmp_path):
    overrides = ("total_steps=256", "num_envs=2", "network.hidden=[8]", "eval.final_episodes=1")
    for _ in range(5):  # until both fall into one second
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        both = [start(*overrides, cwd=tmp_path) for _ in range(2)]
        assert [process.wait(60) for process in both] == [0, 0]
        folders = sorted((tmp_path / "runs" / "ppo-cartpole").iterdir())
        assert len(folders) == 2
        assert all((folder / "result.json").exists() for folder in folders)
        if folders[1].name == f"{folders[0].name}_2":
            return
    pytest.fail("the two runs never started in the same second")


def test_resuming_what_is_no_run(tmp_path):
    missing = pgrun_inside("resume", "nowhere", cwd=tmp_path)
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    (tmp_path / "torn" / ".hydra").mkdir(parents=True)
    (tmp_path / "torn" / ".hydra" / "config.yaml").write_text("")
    torn = pgrun_inside("resume", "torn", cwd=tmp_path)
    assert (torn.code, torn.err.count("\n")) == (2, 1)
    assert "start it again" in torn.err


@pytest.mark.parametrize("damage", ["missing", "empty", "torn"])
def test_a_run_killed_between_hydra_s_files_starts_again(damage, tmp_path):
    """The choices would be lost, and nothing has been trained: the same command does it all."""
    written = tmp_path / "run" / ".hydra"
    written.mkdir(parents=True)
    OmegaConf.save(compose("algo=ppo"), written / "config.yaml")
    torn = {"empty": "", "torn": "hydra:\n  runtime:\n    choices:\n      algo: ppo\n"}
    if damage in torn:
        (written / "hydra.yaml").write_text(torn[damage])
    refused = pgrun_inside("resume", "run", cwd=tmp_path)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "hydra.yaml" in refused.err
    assert "delete the folder and start it again" in refused.err
    assert sorted(path.name for path in tmp_path.glob("run/*")) == [".hydra"]


def test_a_checkpoint_s_own_config_counts(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ("algo=reinforce", "total_steps=64", "num_envs=2", "network.hidden=[8]", "eval.every=null")
    finish(new_run(tmp_path / "run", *overrides, "eval.final_episodes=1", "algo.gamma=0.9"))
    written = tmp_path / "run" / ".hydra" / "config.yaml"

    def trained():
        state = checkpoint.load(tmp_path / "run" / "checkpoints" / "latest.pt")
        return state["config"]["algo"]["gamma"], state["config"]["total_steps"]

    assert main(["eval", "run", "--episodes", "1"]) == 0  # without .hydra, as hydra.output_subdir=null has it
    assert capsys.readouterr().err == ""
    written.parent.mkdir()
    assert main(["eval", "run", "--episodes", "1"]) == 0
    assert "run/.hydra/config.yaml is missing" in capsys.readouterr().err
    assert main(["resume", "run", "total_steps=128"]) == 0
    assert trained() == (0.9, 128)
    said = capsys.readouterr()
    assert main(["eval", "run", "--episodes", "1"]) == 0
    assert capsys.readouterr().err == ""
    written.write_text(written.read_text().replace("gamma: 0.9", "gamma: 0.5"))
    for command in (["eval", "run", "--episodes", "1"], ["resume", "run", "total_steps=192"]):
        assert main(command) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pgrun: ")]
        where = "pgrun: run/.hydra/config.yaml is not what the checkpoint was trained with: algo.gamma=0.5 there, 0.9"
        assert [line[: len(where)] for line in said] == [where]
    assert trained() == (0.9, 192)
    assert "gamma: 0.9" in written.read_text()
    # told to go further, and killed before its first checkpoint
    remember(tmp_path / "run", load_run(tmp_path / "run")[0], ["total_steps=256"])
    capsys.readouterr()
    assert main(["resume", "run"]) == 0
    assert trained() == (0.9, 256)


KILLED = {
    "ppo": ("total_steps=30000", "checkpoint.every=2000", "network.hidden=[16]", "eval.every=6000", "eval.episodes=4"),
    "sac": (
        *("algo=sac", "env=pendulum", "memory.warmup=300", "total_steps=1500", "checkpoint.every=200"),
        *("network.hidden=[32]", "eval.every=500", "eval.episodes=2", "memory.capacity=1200"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("algo", KILLED)
def test_kill_9_at_any_moment(algo, tmp_path):
    overrides = (*KILLED[algo], "eval.final_episodes=4", "log.every=500")
    begin = time.monotonic()
    assert start(*overrides, "hydra.run.dir=whole", cwd=tmp_path).wait(120) == 0
    duration = time.monotonic() - begin
    want, rng = final_state(tmp_path / "whole"), random.Random(0)
    moments = [0.0] + [rng.random() * duration for _ in range(9)]  # 0: as soon as there is a run
    for i, moment in enumerate(moments):
        folder, begin = tmp_path / f"run{i}", time.monotonic()
        config = folder / ".hydra" / "config.yaml"
        process = start(*overrides, f"hydra.run.dir={folder.name}", cwd=tmp_path)
        wait_for(lambda config=config: config.exists() and config.stat().st_size > 0, process)
        time.sleep(max(0.0, begin + moment - time.monotonic()))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        begun = hydra_of(folder) is not None  # else the kill came while Hydra wrote its files, and it starts again
        again = ("resume", folder.name) if begun else (*overrides, f"hydra.run.dir={folder.name}")
        if not begun:
            refused = shell("resume", folder.name, cwd=tmp_path)
            assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
            assert "delete the folder and start it again" in refused.stderr
            shutil.rmtree(folder)
        resumed = shell(*again, cwd=tmp_path)
        assert resumed.returncode == 0, resumed.stderr
        got = final_state(folder)
        different = [key for key in want if not same(want[key], got[key])]
        assert not different, f"{different} differ after a kill at {moment:.2f} s"
        assert curves(folder) == curves(tmp_path / "whole"), f"curves differ after a kill at {moment:.2f} s"
        result = json.loads((folder / "result.json").read_text())
        assert result["status"] == "finished"
