"""A run whose environment breaks, or which is interrupted in the middle of something, keeps what was computed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import breaking
import pytest
from recipes import sampled
from resumable import PPO, SAC, finish
from running import compose, new_run, same
from shell import pgrun

from pgrun.errors import EnvFailed, UserError
from pgrun.run import checkpoint
from pgrun.run.build import build

SMALL = (
    *("env=gym", "network.hidden=[8]", "num_envs=2", "algo.rollout=10", "algo.minibatch=20", "total_steps=400"),
    *("checkpoint.every=20", "eval.every=null", "eval.final_episodes=2"),
)


def result(folder) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_broken_environment_leaves_a_checkpoint_and_one_line(backend, tmp_path):
    broken = (*SMALL, "env.id=breaking:Breaks-v0", "checkpoint.every=null", f"env.backend={backend}")
    run = new_run(tmp_path, *broken, "+env.kwargs.how=raise")
    with pytest.raises(EnvFailed) as caught:
        run.execute()
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("environment 0 failed in step (RuntimeError: the simulator lost its connection); the trace")
    assert "pgrun resume" in line
    assert caught.value.exit_code == 1
    assert (result(tmp_path)["status"], result(tmp_path)["env_steps"]) == ("failed", 100)
    assert "breaking.py" in (tmp_path / "pgrun.log").read_text()
    state = checkpoint.load(run.checkpoints / "latest.pt")
    assert (state["clock"]["steps"], state["collector"]["env"]) == (100, None)
    again = new_run(tmp_path, *broken, "+env.kwargs.how=not", resume=state)
    assert (again.execute()["status"], result(tmp_path)["env_steps"]) == ("finished", 400)


def test_an_environment_that_breaks_in_evaluation_is_evaluated_on_resume(tmp_path):
    overrides = (*SMALL, "env.id=breaking:Breaks-v0", "eval.every=100", "eval.episodes=2", "checkpoint.every=null")
    whole = finish(new_run(tmp_path / "whole", *overrides))
    run = new_run(tmp_path / "run", *overrides, "++eval.env.kwargs={how: raise, at: 12}")
    with pytest.raises(EnvFailed):
        run.execute()
    state = checkpoint.load(run.checkpoints / "latest.pt")
    assert state["clock"]["steps"] == 300  # of the evaluations, two went well
    got = finish(new_run(tmp_path / "run", *overrides, resume=state))
    assert not [key for key in whole if not same(whole[key], got[key])]


def test_a_final_evaluation_that_breaks_keeps_the_training(tmp_path):
    overrides = (*SMALL, "env.id=breaking:Breaks-v0")
    run = new_run(tmp_path, *overrides, "++eval.env.kwargs={how: raise, at: 3}")
    with pytest.raises(EnvFailed):
        run.execute()
    assert (result(tmp_path)["status"], result(tmp_path)["train_return_mean"]) == ("failed", 5.0)
    state = checkpoint.load(run.checkpoints / "latest.pt")
    again = new_run(tmp_path, *overrides, resume=state).execute()
    assert (again["status"], again["env_steps"], again["eval_return_mean"]) == ("finished", 400, 5.0)


def test_the_shell_sees_one_line_and_exit_code_1(tmp_path):
    tests = str(Path(breaking.__file__).parent)
    where = ("env.id=breaking:Breaks-v0", "hydra.run.dir=run", "+env.kwargs.how=sysexit")
    said = pgrun(*SMALL, *where, cwd=tmp_path, PYTHONPATH=tests)
    assert said.code == 1
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("pgrun: environment 0 failed in step (SystemExit: 5); the traceback is in run/pgrun.log; ")
    assert last.endswith("pgrun resume run goes on from step_100")
    assert "Traceback" not in said.err
    assert "Traceback" in (tmp_path / "run" / "pgrun.log").read_text()


def test_a_close_that_fails_ends_no_run(tmp_path, caplog):
    run = new_run(tmp_path, *SMALL, "env.id=breaking:Breaks-v0", "+env.kwargs.how=close")
    assert (run.execute()["status"], result(tmp_path)["eval_return_mean"]) == ("finished", 5.0)
    told = [r.getMessage() for r in caplog.records if "close" in r.getMessage()]
    assert told == ["2 of 2 environments failed in close (RuntimeError: already closed)"] * 2


def test_an_interrupt_by_an_environment_is_one(tmp_path):
    run = new_run(tmp_path, *SMALL, "env.id=breaking:Breaks-v0", "+env.kwargs.how=interrupt", "checkpoint.every=null")
    assert run.execute()["status"] == "interrupted"
    assert checkpoint.load(run.checkpoints / "latest.pt")["clock"]["steps"] == 100


OPEN = {
    "ppo": (*PPO, "env=pendulum", "env.max_episode_steps=50"),
    "ppo with a memory": (*PPO, "network=lstm", "network.size=8", "env.backend=sync", "env.autoreset=next_step"),
    "ppo with a matrix of noise": (*PPO, "env=pendulum", "env.max_episode_steps=20", "network.std=sde"),
    "reinforce with a matrix of noise": (
        *("algo=reinforce", *PPO[:9], "env=pendulum", "env.max_episode_steps=20", "network.std=sde"),
    ),
    "reinforce": ("algo=reinforce", *PPO[:9], "env.backend=async", "num_envs=2"),
    "sac": (*SAC, "algo.rollout=4", "env=pendulum", "env.max_episode_steps=30"),
    "wrapped": (
        *(*PPO, "env=gym", "env.id=breaking:Game-v0", "env.wrappers=[{_target_: breaking.OneLife, _partial_: true}]"),
        "num_envs=2",
    ),
}


@pytest.mark.parametrize("name", sampled(list(OPEN), ("ppo with a memory", "wrapped")))
@pytest.mark.parametrize("moment", [7, 45])
def test_a_signal_between_two_steps_leaves_the_rollout_open(name, moment, tmp_path, monkeypatch):
    want = finish(new_run(tmp_path / "whole", *OPEN[name]))
    run = new_run(tmp_path / "run", *OPEN[name])
    env, steps = run.parts.collector.env, []
    step = env.step

    def signalled(action):
        steps.append(1)
        if len(steps) == moment:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(action)

    monkeypatch.setattr(env, "step", signalled)
    assert run.execute()["status"] == "interrupted"
    assert len(steps) == moment  # not one more
    state = checkpoint.load(run.checkpoints / "latest.pt")
    got = finish(new_run(tmp_path / "run", *OPEN[name], resume=state))
    different = [key for key in want if not same(want[key], got[key])]
    assert not different


def test_a_signal_in_an_evaluation_ends_it_and_loses_nothing(tmp_path):
    overrides = (*SMALL, "env.id=breaking:Breaks-v0", "eval.every=100", "eval.episodes=2", "checkpoint.every=null")
    overrides = (*overrides, "eval.num_envs=1")
    want = finish(new_run(tmp_path / "whole", *overrides))
    run = new_run(tmp_path / "run", *overrides, "++eval.env.kwargs={how: signal, at: 12}")
    assert run.execute()["status"] == "interrupted"
    state = checkpoint.load(run.checkpoints / "latest.pt")
    assert (state["clock"]["steps"], state["evaluation"]["latest_at"]) == (200, 100)
    got = finish(new_run(tmp_path / "run", *overrides, resume=state))
    assert not [key for key in want if not same(want[key], got[key])]


def test_a_checkpoint_that_is_due_comes_before_the_evaluation(tmp_path, monkeypatch):
    overrides = (*SMALL, "env.id=breaking:Breaks-v0", "eval.every=100", "eval.episodes=2", "checkpoint.every=100")
    want = finish(new_run(tmp_path / "whole", *overrides))
    run = new_run(tmp_path / "run", *overrides)

    class Killed(BaseException):
        pass

    def killed(*args):
        raise Killed

    monkeypatch.setattr(run.evaluation, "evaluated", killed)
    with pytest.raises(Killed):
        run.execute()
    state = checkpoint.load(run.checkpoints / "latest.pt")
    assert state["clock"]["steps"] == 100
    got = finish(new_run(tmp_path / "run", *overrides, resume=state))
    assert not [key for key in want if not same(want[key], got[key])]


@pytest.mark.parametrize(("evaluated", "ever"), [(False, 1), (True, 2)])
def test_one_simulator_is_enough(evaluated, ever, tmp_path):
    breaking.Simulator.running.clear()
    breaking.Simulator.ever = 0
    final = f"eval.final_episodes={3 if evaluated else 0}"  # at the end training's is closed
    run = new_run(tmp_path, *SMALL, "env.id=breaking:Simulator-v0", "num_envs=1", "algo.minibatch=10", final)
    found = run.execute()
    assert (found["status"], found["eval_episodes"]) == ("finished", 3 if evaluated else 0)
    assert breaking.Simulator.ever == ever
    assert not breaking.Simulator.running


def test_a_second_simulator_that_can_not_be_had_is_told_of(tmp_path):
    breaking.Simulator.running.clear()
    run = new_run(tmp_path, *SMALL, "env.id=breaking:Simulator-v0", "num_envs=1", "algo.minibatch=10", "eval.every=100")
    with pytest.raises(EnvFailed) as caught:
        run.execute()
    for words in ("beside training's", "port 2000 is in use", "eval.every=null eval.final_episodes=0", "pgrun resume"):
        assert words in str(caught.value)
    assert checkpoint.load(run.checkpoints / "latest.pt")["clock"]["steps"] == 100


def test_the_spaces_stay_what_they_were():
    game = (*SMALL, "env.id=breaking:Game-v0")
    build(compose(*game, "++eval.env.kwargs.pays=1.0", "++eval.env.max_episode_steps=3"))
    for override, words in {
        "++eval.env.kwargs.cells=3": "eval.env: evaluation's observations would be Box",
        "++eval.env.num_envs=3": "eval.num_envs",
        "++eval.env.wrapers=[]": "did you mean eval.env.wrappers",
        "++eval.env.shaping=[]": "nothing is added",
    }.items():
        with pytest.raises(UserError, match=words):
            build(compose(*game, override))
