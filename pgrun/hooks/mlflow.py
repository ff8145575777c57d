"""MLflow: curves, config and result of a run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from pgrun.hooks.packages import need
from pgrun.loop.moments import RunHook, RunView

STATUS = {"failed": "FAILED", "diverged": "FAILED", "interrupted": "KILLED"}  # others are FINISHED
LONGEST = 6000  # characters of a parameter
MOST = 100  # parameters in a call; of metrics, ten times as many


class Mlflow(RunHook):
    """Logs a run to MLflow: its config as parameters, every point of its curves as metrics, and its result.

    A resumed run goes on in the same run there, without points that it has already.

    Args:
        uri: where the tracking server or store is; null: a database in the run directory, RUN/mlflow.db.
        experiment: the experiment's name.
        name: the run's name; null: that of its directory.
    """

    def __init__(self, *, uri: str | None, experiment: str, name: str | None) -> None:
        need("mlflow", "mlflow", "sqlalchemy", "alembic")
        self.uri, self.experiment, self.name = uri, experiment, name
        self.id: str | None = None
        self.client: Any = None
        self.done: dict[str, int] = {}  # the last step of each metric that the run has there

    def start(self, view: RunView) -> None:
        """Begin the run there, or go on with it."""
        if self.uri is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # lines about the making of a database
            logging.getLogger(name).setLevel(logging.WARNING)
        self.client = MlflowClient(tracking_uri=self.uri or f"sqlite:///{view.folder.absolute() / 'mlflow.db'}")
        if self.id is not None:
            self.client.update_run(self.id, status="RUNNING")
            for name in self.client.get_run(self.id).data.metrics:
                self.done[name] = max(point.step for point in self.client.get_metric_history(self.id, name))
            return
        found = self.client.get_experiment_by_name(self.experiment)
        experiment = self.client.create_experiment(self.experiment) if found is None else found.experiment_id
        self.id = self.client.create_run(experiment, run_name=self.name or view.folder.name).info.run_id
        self.parameters(view.config)

    def parameters(self, config: Mapping[str, Any]) -> None:
        """Log a config's keys."""
        from mlflow.entities import Param

        params = [Param(key, str(value)[:LONGEST]) for key, value in flat(config)]
        for i in range(0, len(params), MOST):
            self.client.log_batch(self.id, params=params[i : i + MOST])

    def update(self, view: RunView) -> None:
        """Log the points of curves since the last update."""
        self.metrics([(name, x, step) for name, x, step in view.points if step > self.done.get(name, -1)])

    def metrics(self, points: list[tuple[str, float, int]]) -> None:
        """Log points of curves."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value, step in points]
        for i in range(0, len(metrics), 10 * MOST):
            self.client.log_batch(self.id, metrics=metrics[i : i + 10 * MOST])

    def end(self, view: RunView) -> None:
        """Log the last points and the result."""
        if self.client is None or self.id is None:  # it did not begin
            return
        self.update(view)
        result = view.result
        self.metrics([(f"result/{k}", x, view.steps) for k, x in result.items() if type(x) in (int, float)])
        self.client.set_tag(self.id, "status", result["status"])
        self.client.set_terminated(self.id, STATUS.get(result["status"], "FINISHED"))

    def state_dict(self) -> dict[str, Any]:
        """Return the run's id there."""
        return {"id": self.id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.id = state["id"]


def flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """List the leaves of nested mappings by their dotted keys."""
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        found += flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found
