"""MLflow, with its database in the run directory, read back with its client."""

from __future__ import annotations

import sys

import pytest
from hooked import SMALL, curve
from running import new_run

from pgrun.errors import UserError
from pgrun.hooks.mlflow import Mlflow, flat
from pgrun.run import checkpoint

LOGGED = (*SMALL, "env=cartpole", "env.backend=sync", "total_steps=256", "+hook=mlflow")


def stored(folder):
    """The client of a run's database, and the runs in it."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("pgrun")
    return client, client.search_runs([experiment.experiment_id])


@pytest.mark.slow
def test_curves_config_and_result_are_there_once_even_after_a_resume(tmp_path):
    run = new_run(tmp_path, *LOGGED)
    result = run.execute()
    client, (kept,) = stored(tmp_path)
    assert (kept.info.status, kept.data.tags["status"]) == ("FINISHED", "finished")
    assert float(kept.data.params["algo.gamma"]) == run.config.algo.gamma
    assert kept.data.metrics["result/eval_return_mean"] == pytest.approx(result["eval_return_mean"])
    tags = ("train/return", "loss/value", "eval/return", "schedule/lr")
    want = {tag: [(x.step, x.value) for x in client.get_metric_history(kept.info.run_id, tag)] for tag in tags}
    for tag in tags:
        assert [(step, pytest.approx(value)) for step, value in curve(tmp_path, tag)] == want[tag]
    state = checkpoint.load(run.checkpoints / "step_128.pt")  # as after kill -9: later points are there already
    new_run(tmp_path, *LOGGED, resume=state).execute()
    client, runs = stored(tmp_path)
    assert [other.info.run_id for other in runs] == [kept.info.run_id]
    again = {tag: [(x.step, x.value) for x in client.get_metric_history(kept.info.run_id, tag)] for tag in tags}
    assert again == want


def test_a_config_s_keys_are_dotted():
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == [("a.b", 1), ("a.c.d", [2]), ("e", None)]


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [])
    for name in ("mlflow", "sqlalchemy", "alembic"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UserError, match=r"it needs a package that is not installed: pip install 'pgrun\[mlflow\]'"):
        Mlflow(uri=None, experiment="pgrun", name=None)
