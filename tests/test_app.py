"""The Hydra app: what it refuses in one line, and what it loads before it must."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from running import change_config, compose
from shell import pgrun

from pgrun import app, checkpoint, hydra_start
from pgrun.build import resolved
from pgrun.check import check_plugins
from pgrun.cli import main
from pgrun.errors import UserError
from pgrun.paths import config_dir
from pgrun.resolvers import constant_keys

LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


@pytest.mark.parametrize(("command", "more"), [("resume", []), ("eval", ["--episodes", "1"])])
@pytest.mark.parametrize(("key", "missing"), [("algo", False), ("env", False), ("network", True)])
def test_a_class_or_a_key_that_is_gone(
    command: str, more: list[str], key: str, missing: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["total_steps=300", "eval.every=null", "eval.final_episodes=1"]
    config = resolved(compose(*short))
    (tmp_path / ".hydra").mkdir()
    if command == "eval":  # which needs a checkpoint
        from running import new_run

        new_run(tmp_path, *short).write()
        latest = checkpoint.latest(tmp_path / "checkpoints").resolve()
    if missing:
        OmegaConf.set_struct(config, False)
        del config[key]
    else:
        config[key]._target_ = "pgrun.gone.Gone"
    if command == "eval":
        change_config(latest, config)
    (tmp_path / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    (tmp_path / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {choices: {algo: reinforce, env: cartpole}}}\n")
    assert main([command, str(tmp_path), *more]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "pgrun:" in line]
    assert len(lines) == 1
    assert f"Missing key {key}; another version" in lines[0] if missing else "pgrun.gone" in lines[0]


@pytest.mark.parametrize(
    ("group", "name"), [("launcher", n) for n in ("joblib", "ray", "slurm")] + [("sweeper", "optuna")]
)
def test_a_package_that_is_missing(group: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = config_dir() / "hydra" / group
    parts = {
        "launcher": {"_target_": LAUNCHER},
        "sweeper": {"_target_": SWEEPER},
        group: OmegaConf.load(folder / f"{name}.yaml"),
    }
    for key in parts[group].pop("defaults", []):
        ((part, choice),) = key.items()
        parts[group][part] = OmegaConf.load(folder / part / f"{choice}.yaml")
    config = OmegaConf.create({"hydra": parts})
    check_plugins(config)
    real = importlib.util.find_spec
    gone = {"slurm": "submitit"}.get(name, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == gone else real(package))
    with pytest.raises(UserError, match=rf"pip install 'pgrun\[{'sweep' if name in ('joblib', 'optuna') else name}\]'"):
        check_plugins(config)


def test_jobs_one_by_one_are_pgrun_s_own() -> None:
    config = OmegaConf.create({"hydra": {"launcher": {"_target_": LAUNCHER}, "sweeper": {"_target_": SWEEPER}}})
    check_plugins(config)
    assert config.hydra.launcher._target_ == "hydra_plugins.pgrun_launcher.launcher.BasicLauncher"
    assert config.hydra.sweeper._target_ == "hydra_plugins.pgrun_sweeper.grid_sweeper.GridSweeper"


def test_constant_keys() -> None:
    argv = ["-m", "a=1,2", "b=1_000", "+c=x", "d=choice(1,2)", "e=range(3)", "f=[1,2]", "--config-dir=x"]
    assert constant_keys(argv) == {"b", "c", "f"}


def test_namesakes_of_other_plugins_give_way() -> None:
    store = ConfigStore.instance()
    store.store(group="hydra/launcher", name="joblib", node={"_target_": "another"})
    store.store(group="hydra/launcher", name="another", node={"_target_": "another"})
    hydra_start.drop_namesakes()
    assert "joblib.yaml" not in store.repo["hydra"]["launcher"]
    assert "another.yaml" in store.repo["hydra"]["launcher"]


def test_composing_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from pgrun.cli import main; main(['--cfg', 'job'])\n"
    code += "print(*(name for name in ('torch', 'numpy', 'ray', 'optuna') if name in sys.modules), file=sys.stderr)"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stderr.split() == []


@pytest.mark.parametrize("where", ["on_run_start", "on_multirun_start", "on_multirun_end"])
def test_what_goes_wrong_in_a_callback_is_not_swallowed(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    for name in ("check_dir", "check_plugins", "shown"):
        monkeypatch.setattr(app, name, broken)
    places = {"run": {"dir": "nowhere"}, "sweep": {"dir": "nowhere"}}
    config = OmegaConf.create(
        {"hydra": {"overrides": {"task": []}, "sweeper": {}, "output_subdir": ".hydra", **places}}
    )
    with pytest.raises(SystemExit) as end:
        getattr(app.CheckFirst(), where)(config)
    assert end.value.code == 1
    assert "ZeroDivisionError: a mistake of ours" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("seed=range(5,1)", "seed=range(5,1) is no value at all"),
        ("algo=glob(zz*)", "algo=glob(zz*) is no value at all"),
        ("seed=range(1,5,0)", "seed=range(1,5,0): a range's step can't be 0"),
    ],
)
def test_a_sweep_over_nothing(values: str, said: str, tmp_path: Path) -> None:
    refused = pgrun("-m", values, cwd=tmp_path)
    assert (refused.code, refused.line.startswith(f"pgrun: {said}")) == (2, True), refused.err
    assert list(tmp_path.iterdir()) == []
