"""Evaluation in environments of its own: without an end, in other wrappers, sampled, in how many copies."""

from __future__ import annotations

import json

import breaking  # noqa: F401 (registers the environments)
import pytest
from eval_cases import Still
from omegaconf import OmegaConf
from running import compose, new_run, parts
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pgrun.config.resolve import resolved
from pgrun.errors import UserError
from pgrun.loop.evaluate import evaluate
from pgrun.run.build import build
from pgrun.shell.cli import main

WRAPPERS = (
    "env.wrappers=[{_target_: breaking.OneLife, _partial_: true},"
    "{_target_: gymnasium.wrappers.ClipReward, _partial_: true, min_reward: -1, max_reward: 1}]"
)
SMALL = (
    *("env=gym", "network.hidden=[8]", "num_envs=2", "algo.rollout=20", "algo.minibatch=40", "total_steps=200"),
    *("eval.every=null", "eval.final_episodes=3", "log.every=40"),
)


def run_with_config(folder, *overrides):
    """A run that is over, in a folder that `pgrun eval` reads."""
    run = new_run(folder, *overrides)
    result = run.execute()
    (folder / ".hydra").mkdir()
    OmegaConf.save(resolved(run.config), folder / ".hydra" / "config.yaml")
    return result


def corridor(kind, num_envs):
    made = parts(*SMALL, "env.id=breaking:Corridor-v0", f"+env.kwargs.kind={kind}", f"num_envs={num_envs}")
    return made.make_eval_env(num_envs)


def test_an_episode_without_an_end_is_cut():
    result = evaluate(Still(), corridor("corridor", 2), 2, seed=0, max_steps=7)
    assert (result.lengths, result.returns, result.cut) == ([7] * 2, [7.0] * 2, 2)
    assert result.note.startswith("2 of 2 evaluation episodes were cut at eval.max_steps=7: their returns are of the")
    # where none ended, no more are begun: they would take as long
    result = evaluate(Still(), corridor("corridor", 2), 100, seed=0, max_steps=7)
    assert (result.lengths, result.cut) == ([7] * 2, 2)
    assert "no more were begun" in result.note


def test_some_are_cut_and_all_have_their_shares():
    # half of the episodes end after three steps; those that are cut wait for the others, and then all begin anew
    result = evaluate(Still(), corridor("sometimes", 3), 30, seed=0, max_steps=11)
    assert sorted(set(result.lengths)) == [3, 11]
    assert (len(result.returns), result.cut) == (30, result.lengths.count(11))
    assert 5 < result.cut < 25
    assert evaluate(Still(), corridor("sometimes", 3), 30, seed=0, max_steps=11) == result


def test_a_run_says_once_that_episodes_were_cut(tmp_path, caplog):
    overrides = (*SMALL, "env.id=CliffWalking-v1", "eval.every=100", "eval.episodes=2", "eval.max_steps=30")
    result = new_run(tmp_path, *overrides).execute()
    assert len([r for r in caplog.records if "cut at eval.max_steps=30" in r.getMessage()]) == 1
    assert result["eval_episodes_cut"] == result["eval_episodes"] > 0


def curve(folder, tag):
    events = EventAccumulator(str(folder)).Reload()
    return [e.value for e in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_the_return_is_the_environments_own(backend, tmp_path, capsys):
    # a game pays 140; the wrappers end an episode at each of five lives, and clip 7 a step to 1
    result = run_with_config(tmp_path, *SMALL, "env.id=breaking:Game-v0", WRAPPERS, f"env.backend={backend}")
    assert (result["train_return_mean"], result["eval_return_mean"]) == (140.0, 140.0)
    assert result["eval_return_wrapped_mean"] == 16.0  # 4 of 20 steps are the wrapper's own, at a life's loss
    assert set(curve(tmp_path, "train/return")) == {140.0}
    assert set(curve(tmp_path, "train/return_wrapped")) == {16.0}
    assert curve(tmp_path, "eval/return_wrapped") == [16.0]
    wanted = {"eval.env.wrappers=[]": (140.0, 20.0, None), "eval.env.kwargs.pays=3.0": (60.0, 16.0, 16.0)}
    for override, want in wanted.items():
        assert main(["eval", str(tmp_path), "--episodes", "2", "--json", override]) == 0
        found = json.loads(capsys.readouterr().out)
        figures = ("eval_return_mean", "eval_length_mean", "eval_return_wrapped_mean")
        assert tuple(found.get(key) for key in figures) == want


def test_wrappers_that_leave_the_reward_log_one_return(tmp_path):
    same = "env.wrappers=[{_target_: gymnasium.wrappers.FlattenObservation, _partial_: true}]"
    result = new_run(tmp_path, *SMALL, "env.id=breaking:Game-v0", same).execute()
    assert result["train_return_mean"] == 140.0
    assert "eval_return_wrapped_mean" not in result
    assert not curve(tmp_path, "train/return_wrapped")


def test_training_learns_from_what_the_wrappers_pay():
    made = parts(*SMALL, "env.id=breaking:Game-v0", WRAPPERS)
    rollout = made.collector.collect(made.algorithm)
    assert (rollout.reward == 1.0).all()
    assert rollout.last[3].all()  # a life


def test_an_evaluation_in_other_wrappers():
    made = build(compose(*SMALL, "env.id=breaking:Game-v0", WRAPPERS, "++eval.env.wrappers=[]"))
    result = evaluate(made.algorithm, made.make_eval_env(2), 2, seed=0)
    assert (result.returns, result.lengths, result.streams) == ([140.0] * 2, [20] * 2, {})


@pytest.mark.parametrize(
    ("kind", "key"), [("NormalizeObservation", "network.normalize_obs"), ("NormalizeReward", "algo.normalize_reward")]
)
def test_statistics_that_evaluation_would_lose_are_refused(kind, key):
    wrapper = f"{{_target_: gymnasium.wrappers.{kind}, _partial_: true}}"
    with pytest.raises(UserError, match=f"env.wrappers: {kind} .*{key}=true"):
        parts(*SMALL, "env.id=breaking:Game-v0", f"env.wrappers=[{wrapper}]")


def test_evaluation_may_sample(tmp_path, capsys):
    overrides = (*SMALL, "env.id=breaking:Corridor-v0", "optimizer.lr=1e-9", "eval.max_steps=50", "eval.every=100")
    fixed = new_run(tmp_path / "fixed", *overrides).execute()
    sampled = run_with_config(tmp_path / "sampled", *overrides, "eval.stochastic=true", "eval.final_episodes=20")
    assert (fixed["eval_stochastic"], sampled["eval_stochastic"]) == (False, True)
    assert fixed["eval_return_mean"] in (1.0, 50.0)
    assert 1.0 < sampled["eval_return_mean"] < 10.0
    folder = str(tmp_path / "sampled")
    assert main(["eval", folder, "--episodes", "20", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["eval_return_mean"], again["eval_stochastic"]) == (sampled["eval_return_mean"], True)
    assert main(["eval", folder, "--episodes", "9", "--json", "eval.stochastic=false"]) == 0
    assert json.loads(capsys.readouterr().out)["eval_return_mean"] in (1.0, 50.0)


@pytest.mark.parametrize(
    ("overrides", "copies"),
    [
        (["env=pendulum", "num_envs=3"], 3),
        (["env=pendulum", "num_envs=3", "eval.num_envs=5"], 5),
        (["env=pendulum", "num_envs=30"], 20),
        (["env=cartpole", "num_envs=3"], 20),  # rows of arrays
        (["env=lqr", "algo=dpg"], 20),
        (["env=cartpole", "num_envs=3", "eval.num_envs=2"], 2),
    ],
)
def test_an_evaluation_has_as_many_copies_as_training(overrides, copies):
    assert parts(*overrides, "network.hidden=[8]").make_eval_env(20).num_envs == copies


def test_only_evaluation_changes_in_an_evaluation(tmp_path, capsys):
    run_with_config(tmp_path, *SMALL, "env.id=breaking:Game-v0", "eval.final_episodes=0")
    for override, words in {
        "env.wrappers=[]": "did you mean eval.env.wrappers?",
        "algo.gamma=0.5": "algo.gamma can't change in an evaluation",
        "eval.env.kwargs.cells=2": "eval.env: evaluation's observations would be Box",
        "eval.env.wrapers=[]": "did you mean eval.env.wrappers?",
    }.items():
        assert main(["eval", str(tmp_path), "--episodes", "1", override]) == 2
        assert words in capsys.readouterr().err
