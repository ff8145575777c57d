"""A launcher of somebody else's runs a sweep in a directory of its own, and writes over nothing."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commands_inside import run, tree
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, run_job
from hydra.plugins.launcher import Launcher
from omegaconf import open_dict


class Foreign(Launcher):
    """Writes into the sweep's directory and runs the jobs by Hydra's own means, as launchers do."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "foreign.txt").write_text("mine")
        done = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id, config.hydra.job.num = f"job_{number}", number
            places: dict[str, Any] = {"job_dir_key": "hydra.sweep.dir", "job_subdir_key": "hydra.sweep.subdir"}
            done.append(run_job(hydra_context=self.context, task_function=self.task, config=config, **places))
        return done


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The override that chooses it, in an empty working directory."""
    module = types.ModuleType("hydra_plugins.foreign")
    module.Foreign = Foreign  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hydra_plugins.foreign", module)
    monkeypatch.setitem(Plugins.instance().class_name_to_class, "hydra_plugins.foreign.Foreign", Foreign)
    monkeypatch.chdir(tmp_path)
    return "hydra.launcher._target_=hydra_plugins.foreign.Foreign"


def test_it_runs_a_sweep_and_writes_over_none(foreign: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("-m", "seed=3", foreign, "hydra.sweep.dir=sweep")
    assert run(*words) == 0
    jobs = sorted((tmp_path / "sweep").glob("*/result.json"))
    assert [json.loads(path.read_text())["status"] for path in jobs] == ["finished"]
    assert "best: " in capsys.readouterr().out
    before = tree(tmp_path)
    assert run(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "hydra.sweep.dir=sweep is not empty, and hydra_plugins.foreign.Foreign is not pgrun's" in line
    assert tree(tmp_path) == before
