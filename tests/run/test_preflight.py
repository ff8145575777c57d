"""Settings that a sweep's launcher and sweeper can't take are refused before the sweep begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from shell import pgrun

from pgrun.config.paths import config_dir
from pgrun.errors import UserError
from pgrun.sweep.preflight import check_plugin, check_plugins

SHIPPED = {
    path.stem: path for group in ("launcher", "sweeper") for path in (config_dir() / "hydra" / group).glob("*.yaml")
}


def shipped(name: str) -> DictConfig:
    """A launcher's or sweeper's config, with the parts that its defaults choose."""
    config = DictConfig(OmegaConf.load(SHIPPED[name]))
    for group in config.pop("defaults", []):
        for key, choice in group.items():
            config[key] = OmegaConf.load(config_dir() / "hydra" / "sweeper" / key / f"{choice}.yaml")
    return config


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_passes(name: str) -> None:
    check_plugin("hydra", shipped(name))


@pytest.mark.parametrize(
    ("name", "value", "passes"),
    [
        ("joblib", "n_jobs=0", False),
        ("joblib", "n_jobs=two", False),
        ("joblib", "n_jobs=-2", True),
        ("joblib", "n_jobs=1.5", False),
        ("ray", "n_jobs=0", False),
        ("ray", "n_jobs=true", False),
        ("ray", "cpus_per_job=0.5", True),
        ("ray", "gpus_per_job=-1", False),
        ("ray", "cpus_per_job=null", False),
        ("slurm", "n_jobs=null", False),
        ("slurm", "mem_gb=null", True),
        ("slurm", "mem_gb=0.5", True),
        ("slurm", "poll_seconds=-1", False),
        ("slurm", "timeout_min=long", False),
        ("optuna", "n_trials=0", False),
        ("optuna", "seed=null", True),
        ("optuna", "seed=-1", False),
        ("optuna", "direction=up", False),
        ("optuna", "direction=minimize", True),
    ],
)
def test_values_of_launchers_and_sweepers(name: str, value: str, passes: bool) -> None:
    part: Any = OmegaConf.merge(shipped(name), OmegaConf.from_dotlist([value]))
    if passes:
        check_plugin("hydra.x", part)
    else:
        with pytest.raises(UserError, match=rf"(?i)hydra.x.{value} (should be|is out of range|is not known)"):
            check_plugin("hydra.x", part)


def test_the_grid_s_batches() -> None:
    sweeper = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "max_batch_size": 0}
    launcher = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
    with pytest.raises(
        UserError, match=r"hydra.sweeper.max_batch_size=0 is out of range: it must be at least 1, or null"
    ):
        check_plugins(OmegaConf.create({"hydra": {"launcher": launcher, "sweeper": sweeper}}))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["seed=0,1", "+sweep=joblib", "hydra.launcher.n_jobs=0"],
            "hydra.launcher.n_jobs=0 is out of range: it must be at least 1, or -1 for",
        ),
        (["-m", "optimizer.lr=interval(1e-4,1e-2)"], "optimizer.lr=interval(1e-4,1e-2): only hydra/sweeper=optuna"),
        (["-m", "hydra/sweeper=optuna", "optimizer.lr=interval(1,0)"], "optimizer.lr=interval(1,0) can't be searched"),
        (
            ["-m", "seed=0,1", "hydra/launcher=slurm", "hydra.launcher.cluster=local", "+hydra.launcher.x=1"],
            "hydra.launch",
        ),
    ],
)
def test_refused_before_anything_is_made(arguments: list[str], said: str, tmp_path: Path) -> None:
    refused = pgrun(*arguments, cwd=tmp_path)
    assert (refused.code, refused.line.startswith(f"pgrun: {said}")) == (2, True), refused.err
    assert list(tmp_path.iterdir()) == []
