"""Hooks of the config: their moments, what they see, what they change, and their state over a resume."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hooked import curve
from own_hooks import Diary
from resumable import SAC, finish, outcome
from running import new_run, same
from shell import pgrun

from pgrun.errors import HookFailed
from pgrun.loop.moments import MOMENTS
from pgrun.run import checkpoint

RECIPE = (
    *("algo=ppo", "env=cartpole", "network.hidden=[8]", "num_envs=4", "algo.rollout=32", "algo.minibatch=64"),
    *("algo.epochs=1", "total_steps=640", "log.every=128", "eval.every=128", "eval.episodes=2", "eval.max_steps=20"),
    *("eval.final_episodes=2", "checkpoint.every=128", "checkpoint.keep=100"),
)
PPO = (*RECIPE, "env.backend=sync")  # each rollout has 128 steps
NOISY = "++hooks.noisy._target_=own_hooks.Noisy"
CORRIDOR = ("env=gym", "env.id=corridor:HookCorridor-v0")


def hook(name: str, **arguments) -> list[str]:
    """The overrides that add a hook of `own_hooks`."""
    return [f"++hooks.own._target_=own_hooks.{name}", *(f"++hooks.own.{key}={x}" for key, x in arguments.items())]


def test_the_moments_come_in_their_order_with_what_they_are_of(tmp_path):
    run = new_run(tmp_path, *PPO, *hook("Diary"))
    result = run.execute()
    diary = list(Diary.written)
    assert {entry[0] for entry in diary} == set(MOMENTS)
    assert (diary[0], diary[-1][0]) == (("start", 0, False), "end")
    updates = [entry for entry in diary if entry[0] == "update"]
    assert [entry[1] for entry in updates] == [128, 256, 384, 512, 640]
    assert all("loss/policy" in entry[2] for entry in updates)
    evaluated = [(entry[1], pytest.approx(entry[2])) for entry in diary if entry[0] == "evaluation"]
    assert [(step, pytest.approx(x)) for step, x in curve(tmp_path, "eval/return")] == evaluated
    told_of = [entry[1:] for entry in diary if entry[0] == "checkpoint"]
    assert told_of == [(entry[1], f"step_{entry[1]}.pt") for entry in updates]
    at = [entry[0] for entry in diary if entry[1] == 256]
    assert at == ["update", "evaluation", "checkpoint"]
    points = [tuple(point) for entry in updates for point in entry[3]]
    assert {name for name, _, _ in points} >= {"train/return", "loss/policy", "eval/return"}
    seen = [x for entry in updates for x in entry[4]]
    assert sum(seen) / len(seen) == pytest.approx(result["train_return_mean"])
    own = {key: x for key, x in diary[-1][2].items() if key not in ("wall_seconds", "sessions", "eval_seconds")}
    written = json.loads((tmp_path / "result.json").read_text())
    assert {key: written[key] for key in own} == own


@pytest.mark.parametrize(
    "recipe", [PPO, pytest.param((*SAC, "env=pendulum", "env.max_episode_steps=30"), marks=pytest.mark.slow)]
)
def test_a_hook_that_changes_nothing_changes_no_number(recipe, tmp_path):
    want = finish(new_run(tmp_path / "without", *recipe))
    got = finish(new_run(tmp_path / "with", *recipe, NOISY))
    counts = got.pop("hooks")["states"]["noisy"]["dict"]["counts"]["dict"]
    assert min(counts.values()) > 0
    assert not [key for key in want if not same(want[key], got[key])]
    points = curve(tmp_path / "with", "noisy/updates")
    assert [value for _, value in points] == list(range(1, len(points) + 1))
    assert curve(tmp_path / "with", "loss/value") == curve(tmp_path / "without", "loss/value")


def test_a_hook_s_state_after_a_resume_is_that_of_an_undisturbed_run(tmp_path):
    whole = new_run(tmp_path / "whole", *PPO, NOISY)
    want = finish(whole)
    steps = sorted(whole.checkpoints.glob("step_*.pt"), key=lambda path: int(path.stem[5:]))
    assert len(steps) >= 4
    for path in steps[1:3]:
        got = finish(new_run(tmp_path / path.stem, *PPO, NOISY, resume=checkpoint.load(path)))
        assert not [key for key in want if not same(want[key], got[key])], path.name


@pytest.mark.slow
def test_the_state_sees_another_unit(tmp_path):
    want, got = (finish(new_run(tmp_path / str(n), *PPO, NOISY, f"++hooks.noisy.unit={n}")) for n in (1, 2))
    assert [key for key in want if not same(want[key], got[key])] == ["hooks"]


def test_a_stop_says_who_asked_and_why_and_lasts_until_its_settings_change(tmp_path):
    overrides = (*PPO, *hook("Changes", at=2, what="stop"))
    run = new_run(tmp_path, *overrides)
    result = run.execute()
    assert (result["status"], result["env_steps"]) == ("finished", 256)
    assert result["stopped"] == {"by": "own", "why": "it has had enough"}
    assert result["eval_return_mean"] is not None
    state = checkpoint.load(run.checkpoints / "latest.pt")
    assert new_run(tmp_path, *overrides, resume=state).execute()["env_steps"] == 256
    again = new_run(tmp_path, *PPO, *hook("Changes", at=9, what="stop"), resume=state).execute()
    assert (again["env_steps"], again.get("stopped")) == (640, None)


@pytest.mark.slow
def test_a_checkpoint_is_written_when_a_hook_wants_one(tmp_path):
    run = new_run(tmp_path, *PPO, *hook("Changes", at=3, what="write"), "checkpoint.every=null", "eval.every=null")
    run.execute()
    assert sorted(path.name for path in run.checkpoints.glob("step_*.pt")) == ["step_384.pt", "step_640.pt"]
    state = checkpoint.load(run.checkpoints / "step_384.pt")
    got = finish(new_run(tmp_path / "again", *PPO, "checkpoint.every=null", "eval.every=null", resume=state))
    want = outcome(checkpoint.load(run.checkpoints / "step_640.pt"))
    assert not [key for key in got if not same(want[key], got[key])]


@pytest.mark.slow
def test_learning_rates_are_scaled_and_stay_so(tmp_path):
    overrides = (*PPO, *hook("Changes", at=2, what="rate"), "optimizer.schedule=constant", "tuned=none")
    whole = new_run(tmp_path / "whole", *overrides)
    want = finish(whole)
    rates = [value for _, value in curve(tmp_path / "whole", "schedule/lr")]
    assert rates[-1] == pytest.approx(rates[0] / 4)
    state = checkpoint.load(whole.checkpoints / "step_384.pt")
    got = finish(new_run(tmp_path / "again", *overrides, resume=state))
    assert not [key for key in want if not same(want[key], got[key])]


def test_a_hook_that_raises_is_one_line_and_keeps_the_checkpoint(tmp_path):
    overrides = (*PPO, *hook("Changes", at=4, what="raise"))
    run = new_run(tmp_path, *overrides)
    with pytest.raises(HookFailed) as caught:
        run.execute()
    line = str(caught.value)
    assert line.startswith("hooks.own (own_hooks.Changes) failed at update: ZeroDivisionError: no (own_hooks.py:")
    assert line.endswith("goes on from step_384")
    assert ("\n" not in line, caught.value.exit_code) == (True, 1)
    assert 'raise ZeroDivisionError("no' in (tmp_path / "pgrun.log").read_text()
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "failed"
    state = checkpoint.load(run.checkpoints / "latest.pt")
    mended = finish(new_run(tmp_path, *PPO, *hook("Changes", at=4, what="nothing"), resume=state))
    want = finish(new_run(tmp_path / "whole", *PPO, *hook("Changes", at=4, what="nothing")))
    assert not [key for key in want if not same(want[key], mended[key])]


@pytest.mark.slow
def test_a_hook_that_fails_at_the_end_keeps_the_run(tmp_path):
    run = new_run(tmp_path, *PPO, *hook("Ends"))
    with pytest.raises(
        HookFailed, match=r"failed at end: OSError: the archive is full \(own_hooks.py:\d+\); the trace"
    ):
        run.execute()
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["env_steps"]) == ("failed", 640)
    assert result["eval_return_mean"] is not None
    assert (run.checkpoints / "step_640.pt").is_file()


@pytest.mark.slow
def test_environments_that_can_not_change_are_one_line(tmp_path):
    with pytest.raises(HookFailed, match=r"these environments can't change their arguments .*use env\.backend=sync"):
        new_run(tmp_path, *RECIPE, *hook("Changes", at=2, what="env")).execute()


@pytest.mark.slow
def test_an_environment_changes_where_its_episodes_end(tmp_path):
    run = new_run(tmp_path, *PPO, *CORRIDOR, "num_envs=4", "log.every=128", *hook("Changes", at=2, what="env"))
    run.execute()
    assert [value for _, value in curve(tmp_path, "train/return")] == [4.0, 4.0, pytest.approx(6.4), 7.0, 7.0]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "async"])
def test_with_several_processes_the_first_one_s_hooks_stop_all(parallel, tmp_path):
    algo = ("algo=ppo", "env=cartpole") if parallel == "ddp" else ("algo=a3c", "env=cartpole", "optimizer=rmsprop")
    line = (*algo, f"parallel={parallel}", "workers=2", "total_steps=1e6", "eval.every=null", "eval.final_episodes=2")
    own = ("hooks.own._target_=own_hooks.Changes", "hooks.own.at=3")
    tests = Path(__file__).parents[1]
    support = {"PYTHONPATH": os.pathsep.join(map(str, (tests / "support", tests.parent)))}
    said = pgrun(*line, *own, "hooks.own.what=stop", "hydra.run.dir=run", cwd=tmp_path, **support)
    assert said.code == 0, said.err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["stopped"] == {"by": "own", "why": "it has had enough"}
    assert result["env_steps"] < 100_000
    for what in ("write", "rate"):
        said = pgrun(*line, *own, f"hooks.own.what={what}", f"hydra.run.dir={what}", cwd=tmp_path, **support)
        assert said.code == 1
        assert "where 2 processes learn together: use parallel=none" in said.err.splitlines()[-1]
