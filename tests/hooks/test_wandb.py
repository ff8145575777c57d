"""Weights & Biases, offline: its files are read back with its own messages."""

from __future__ import annotations

import json
import sys

import pytest
from hooked import SMALL, curve
from running import compose, new_run
from wandb_files import history, records

from pgrun.config.values import validate
from pgrun.errors import UserError
from pgrun.hooks.wandb import Wandb
from pgrun.run import checkpoint
from pgrun.run.build import build

LOGGED = (*SMALL, "env=cartpole", "env.backend=sync", "total_steps=256", "+hook=wandb")


def points(folder, tag):
    return [(row["env_steps"], pytest.approx(row[tag])) for row in history(folder) if tag in row]


@pytest.mark.slow
def test_curves_config_and_result_are_there(tmp_path):
    run = new_run(tmp_path, *LOGGED)
    result = run.execute()
    for tag in ("train/return", "loss/value", "eval/return", "schedule/lr"):
        assert curve(tmp_path, tag) == points(tmp_path, tag)
    (begun,) = [record.run for record in records(tmp_path) if record.HasField("run")]
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert (config["algo"]["gamma"], config["seed"]) == (run.config.algo.gamma, 0)
    assert begun.project == "pgrun"
    ends = [record.exit.exit_code for record in records(tmp_path) if record.HasField("exit")]
    assert ends == [0]
    summary = {
        item.key: json.loads(item.value_json)
        for record in records(tmp_path)
        if record.HasField("summary")
        for item in record.summary.update
    }
    assert summary["eval_return_mean"] == pytest.approx(result["eval_return_mean"])


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_the_same_run(tmp_path):
    first = new_run(tmp_path, *LOGGED)
    first.execute()
    state = checkpoint.load(first.checkpoints / "step_128.pt")
    new_run(tmp_path, *LOGGED, resume=state).execute()
    ids = {record.run.run_id for record in records(tmp_path) if record.HasField("run")}
    assert ids == {state["hooks"]["states"]["wandb"]["dict"]["id"]}
    assert {step for step, _ in points(tmp_path, "train/return")} == {64, 128, 192, 256}


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(UserError, match=r"it needs a package that is not installed: pip install 'pgrun\[wandb\]'"):
        Wandb(mode="offline", project="pgrun", name=None)


@pytest.mark.slow
def test_another_mode_is_refused():
    wrong = compose(*LOGGED, "hooks.wandb.mode=of")
    with pytest.raises(UserError, match=r"hooks\.wandb\.mode=of .*offline, online"):
        validate(wrong)
    build(compose(*LOGGED, "hooks.wandb.mode=null"))
