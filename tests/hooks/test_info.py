"""Numbers of info as curves, and the success rate that nobody asks for."""

from __future__ import annotations

import json

import pytest
from hooked import CORRIDOR, SMALL, curve
from resumable import finish
from running import compose, new_run, same

from pgrun.after.evaluation import evaluate_checkpoint
from pgrun.errors import UserError
from pgrun.run import checkpoint
from pgrun.run.build import build

LEFT = ("+hook=info", "hooks.info.keys=[left, word]")


def test_the_success_rate_is_a_curve_by_itself(tmp_path):
    result = new_run(tmp_path, *CORRIDOR).execute()
    rates = curve(tmp_path, "train/success_rate")
    assert [step for step, _ in rates] == [step for step, _ in curve(tmp_path, "train/return")]
    assert {rate for _, rate in rates} == {0.5}  # every second episode of each copy
    assert len(curve(tmp_path, "eval/success_rate")) == len(curve(tmp_path, "eval/return"))
    assert result["train_success_rate"] == pytest.approx(0.5, abs=0.05)
    assert 0.0 <= json.loads((tmp_path / "result.json").read_text())["eval_success_rate"] <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("over", "want"), [("last", 0.0), ("mean", 1.5), ("sum", 6.0)])
def test_a_key_is_reduced_over_each_episode(over, want, tmp_path):
    result = new_run(tmp_path, *CORRIDOR, *LEFT, f"hooks.info.over={over}").execute()
    for tag in ("train/info/left", "eval/info/left"):
        values = [value for _, value in curve(tmp_path, tag)]
        assert values
        assert set(values) == {want}
    assert (result["train_info_left"], result["eval_info_left"]) == (want, want)
    assert not curve(tmp_path, "train/info/word")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_a_resumed_run_has_the_same_means(backend, autoreset, tmp_path):
    own = (*LEFT, "hooks.info.over=mean", f"env.backend={backend}", f"env.autoreset={autoreset}", "num_envs=2")
    overrides = (*CORRIDOR, *own, "++env.kwargs.length=7", "log.every=200")
    whole = new_run(tmp_path / "whole", *overrides)
    want = finish(whole)
    path = sorted(whole.checkpoints.glob("step_*.pt"))[1]
    got = finish(new_run(tmp_path / "again", *overrides, resume=checkpoint.load(path)))
    assert not [key for key in want if not same(want[key], got[key])]
    assert want["collector"]["stats"]["infos"]["info/left"][1]


@pytest.mark.slow
def test_an_evaluation_apart_says_it_too(tmp_path):
    from shell import pgrun_inside

    said = pgrun_inside(*CORRIDOR, "hydra.run.dir=run", cwd=tmp_path)
    assert said.code == 0, said.err
    result = evaluate_checkpoint(tmp_path / "run", "latest", episodes=4, seed=0, stochastic=False)
    assert 0.0 <= result["eval_success_rate"] <= 1.0


@pytest.mark.slow
def test_environments_without_info_are_refused():
    with pytest.raises(UserError, match=r"^hooks\.info: TensorEnv has no info to read"):
        build(compose(*SMALL, "env=lqr", *LEFT))
