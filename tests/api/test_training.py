"""Runs from Python are the shell's, and leave the process as they found it."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from running import same
from shell import pgrun as shell

import pgrun
from pgrun.api.words import word
from pgrun.run import checkpoint

TINY = ("algo=reinforce", "env=cartpole", "num_envs=2", "network.hidden=[8]", "eval.every=null")
SHORT = (*TINY, "eval.final_episodes=2", "hydra.run.dir=run")


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    GlobalHydra.instance().clear()


def latest(folder: Path) -> dict[str, Any]:
    return checkpoint.load(checkpoint.latest(folder / "checkpoints"))


def state() -> dict[str, Any]:
    """Everything that a call could disturb."""
    root = logging.getLogger()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    return {
        "argv": list(sys.argv),
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "path": list(sys.path),
        "signals": [signal.getsignal(number) for number in numbers],
        "hydra": (GlobalHydra.instance().hydra, HydraConfig.instance().cfg, list(ConfigStore.instance().repo)),
        "resolvers": [OmegaConf.has_resolver(name) for name in ("free_dir", "job_name", "sweep_name", "mine")],
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "gc": (gc.isenabled(), gc.get_freeze_count()),
        "log": (root.level, list(root.handlers), logging.getLogger("pgrun").level, logging.raiseExceptions),
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
    }


def test_a_run_has_its_folder_result_curves_and_policy_and_disturbs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    OmegaConf.register_new_resolver("mine", lambda: 1, replace=True)
    torch.set_float32_matmul_precision("high")
    before = state()
    settings: dict[str, Any] = {"algo.gamma": 0.9, "log.every": 64, "matmul_precision": "highest", "threads": 2}
    run = pgrun.train(*SHORT, seed=3, total_steps=256, quiet=True, **settings)
    after = state()
    torch.set_float32_matmul_precision("highest")
    assert {key for key in before if before[key] != after[key]} == set()
    assert (run.status, run.result["seed"], run.folder) == ("finished", 3, Path.cwd() / "run")
    assert "algo.gamma=0.9" in run.result["command"]
    steps, values = run.curves["train/return"]
    with pytest.raises(KeyError, match="there is no curve train/retrun; did you mean train/return"):
        run.curves["train/retrun"]
    assert steps.dtype == np.int64
    assert len(steps) == len(values) > 0
    assert steps[-1] <= run.result["env_steps"]
    assert list(run.curves["eval/return"].values) == pytest.approx([run.result["eval_return_mean"]])
    assert run.policy()(np.zeros(4, np.float32)) in (0, 1)
    assert "reinforce on cartpole, finished" in repr(run)
    assert capfd.readouterr() == ("", "")
    before = state()
    result = pgrun.evaluate(run, episodes=2)
    assert result["eval_return_mean"] == run.result["eval_return_mean"]
    over = pgrun.resume(run)
    assert "to go on" in over.over
    config = pgrun.compose(*SHORT, {"algo.gamma": 0.5})
    assert config.algo.gamma == 0.5
    assert "hydra" not in config
    assert {key for key, value in state().items() if before[key] != value} == set()
    with pytest.raises(pgrun.UserError, match="holds a run already"):
        pgrun.train(*SHORT)


@pytest.mark.slow
def test_the_bits_are_the_shell_s(tmp_path: Path) -> None:
    words = (*TINY, "total_steps=500", "seed=7", "eval.final_episodes=3")
    done = shell(*words, "hydra.run.dir=shell", cwd=tmp_path)
    assert done.code == 0, done.err
    random.seed(1)
    torch.manual_seed(5)
    run = pgrun.train(*words, "hydra.run.dir=here", quiet=True)
    one, other = latest(tmp_path / "shell"), latest(run.folder)
    assert same(one["algorithm"], other["algorithm"])
    assert same(one["generators"]["torch"], other["generators"]["torch"])
    theirs = pgrun.Run("shell")
    figures = {key for key in theirs.result if key.startswith(("eval_", "train_return", "best_"))} | {"env_steps"}
    figures -= {"eval_seconds"}
    assert {key: theirs.result[key] for key in figures} == {key: run.result[key] for key in figures}
    assert theirs.result.keys() == run.result.keys()
    curves = {tag: curve for tag, curve in theirs.curves.items() if not tag.startswith("time/")}
    assert curves.keys() == {tag for tag in run.curves if not tag.startswith("time/")}
    assert all(np.array_equal(curve.values, run.curves[tag].values) for tag, curve in curves.items())
    assert {path.name[:7] for path in run.folder.iterdir()} == {path.name[:7] for path in theirs.folder.iterdir()}
    line = shell("eval", "shell", "--episodes", "4", "--json", cwd=tmp_path)
    assert f'"eval_return_mean": {pgrun.evaluate(run, episodes=4)["eval_return_mean"]}' in line.out
    went = shell("resume", "shell", "total_steps=700", cwd=tmp_path)
    assert went.code == 0, went.err
    assert same(latest(tmp_path / "shell")["algorithm"], latest(pgrun.resume(run, total_steps=700).folder)["algorithm"])


@pytest.mark.slow
def test_in_another_thread_than_the_main_one() -> None:
    runs: list[Any] = []
    words = [[*TINY, "total_steps=200", "eval.final_episodes=0", f"hydra.run.dir=r{i}"] for i in range(2)]
    threads = [threading.Thread(target=lambda w=w: runs.append(pgrun.train(*w, quiet=True))) for w in words]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.status for run in runs] == ["finished"] * 2
    assert same(*(latest(run.folder)["algorithm"] for run in runs))


@pytest.mark.slow
def test_within_a_hydra_app_of_the_caller_s(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("mine: 1\nhydra: {run: {dir: out}}\n")
    (tmp_path / "app.py").write_text(
        "import hydra\nfrom hydra.core.hydra_config import HydraConfig\nimport pgrun\n"
        "@hydra.main(version_base='1.3', config_path='conf', config_name='config')\n"
        "def main(config):\n"
        f"    run = pgrun.train(*{SHORT!r}, total_steps=64, quiet=True)\n"
        "    assert HydraConfig.get().job.name == 'app', HydraConfig.get().job.name\n"
        "    assert hydra.core.global_hydra.GlobalHydra.instance().is_initialized()\n"
        "    print(config.mine, run.status, HydraConfig.get().run.dir)\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["1 finished out"], done.stderr
    with hydra.initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        assert pgrun.compose("algo=sac", "env=pendulum").algo.gamma == 0.99
        assert hydra.compose("config").mine == 1


def interrupt_when(there: Path, seconds: float = 60.0) -> threading.Thread:
    """Send this process what a notebook's stop button sends, once a checkpoint lies beside its log."""

    def watch() -> None:
        for _ in range(int(seconds / 0.02)):
            if list(there.parent.glob("checkpoints/step_*.pt")):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.slow
def test_an_interrupt_writes_a_checkpoint_and_the_run_goes_on(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    words, total = (*TINY, "eval.final_episodes=0"), 6000
    watching = interrupt_when(tmp_path / "run" / "pgrun.log")
    run = pgrun.train(*words, "hydra.run.dir=run", "checkpoint.every=500", total_steps=total)
    watching.join()
    assert run.status == "interrupted"
    assert signal.getsignal(signal.SIGINT) is handler
    steps = latest(run.folder)["clock"]["steps"]
    assert 0 < steps < total
    went = pgrun.resume(run, quiet=True)
    assert (went.status, went.folder) == ("finished", run.folder)
    whole = pgrun.train(*words, "hydra.run.dir=whole", total_steps=total, quiet=True)
    assert same(latest(whole.folder)["algorithm"], latest(run.folder)["algorithm"])


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    (("algo=pp0",), {}, "algo=pp0 is not known"),
    ((), {"algo.gama": 0.9}, "did you mean algo.gamma"),
    ((), {"algo.gamma": 3}, "out of range"),
    ((), {"seed": object()}, "a config holds"),
    ((), {"network.hidden": [lambda: 1]}, "a config holds"),
    ((), {"hooks.own": pytest.Function}, "'__main__.Class' if a notebook's cell"),
    ((), {"env.kwargs": {1: 2}}, "can't be a key"),
    ((), {"a b": 2}, "is no key"),
    ((3,), {}, "is no override"),
    (("-m", "seed=1,2"), {}, "flags are the shell's"),
    (("+sweep=joblib",), {}, "makes one run"),
    (("algo=sac", "env=cartpole"), {}, "can't act in Discrete"),
    ((), {"hydra.run.dir": ""}, "hydra.run.dir is empty"),
    (("env=gym", "env.id=Nowhere-v0"), {}, "not a registered"),
]


@pytest.mark.parametrize(("words", "settings", "said"), WRONG)
def test_what_is_wrong_is_one_line_and_writes_nothing(
    words: tuple[Any, ...], settings: dict[str, Any], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(pgrun.UserError, match=said) as refused:
        pgrun.train(*words, **settings)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_what_is_no_run(tmp_path: Path) -> None:
    for call in (pgrun.load, pgrun.evaluate, pgrun.resume, pgrun.Run):
        with pytest.raises(pgrun.UserError, match="is no run directory"):
            call(tmp_path)  # type: ignore[operator]
    for wrong in ({"episodes": 0}, {"episodes": 1.5}, {"seed": -1}):
        with pytest.raises(pgrun.UserError, match="should be a whole number"):
            pgrun.evaluate(tmp_path, **wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_run_that_diverges_raises() -> None:
    settings = {"optimizer.lr": 1e38, "algo.max_grad_norm": None, "eval.every": None, "eval.final_episodes": 0}
    with pytest.raises(pgrun.Diverged, match="at environment step"):
        pgrun.train("algo=a2c", "env=pendulum", "tuned=none", "hydra.run.dir=run", settings, quiet=True)
    assert pgrun.Run("run").status == "diverged"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("algo", "ppo", "algo=ppo"),
        ("seed", 3, "seed=3"),
        ("total_steps", 1e6, "total_steps=1000000"),
        ("env.kwargs.size", 5000.0, "env.kwargs.size=5000.0"),
        ("algo.gamma", np.float32(0.5), "algo.gamma=0.5"),
        ("compile", True, "compile=true"),
        ("eval.every", None, "eval.every=null"),
        ("optimizer.lr", 1e-5, "optimizer.lr=1e-05"),
        ("network.hidden", (64, 64), "network.hidden=[64, 64]"),
        ("env.id", "a=b,c", 'env.id="a=b,c"'),
        ("env.id", "true", 'env.id="true"'),
        ("env.id", 'it\'s "so"\\', None),
        ("env.kwargs", {"a": {"b": [1, "x y", None]}, "c": "1"}, None),
        ("env.kwargs.text", "", None),
        ("env.kwargs.x", float("inf"), "env.kwargs.x=inf"),
    ],
)
def test_values_become_words_that_mean_them(key: str, value: Any, text: str | None) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    written = word(key, value)
    assert text is None or written == text
    read = OverridesParser.create().parse_override(written).value()
    assert read == (list(value) if isinstance(value, tuple) else value)


def test_an_environment_s_arguments_are_a_dict() -> None:
    kwargs = {"render_mode": "rgb_array", "goal_velocity": 0.5}
    config = pgrun.compose({"env.id": "MountainCar-v0", "env.kwargs": kwargs, "eval.env": {"kwargs": {}}}, env="gym")
    assert config.env.kwargs == kwargs


def test_importing_is_quick_and_says_what_there_is() -> None:
    assert {"train", "load", "evaluate", "resume", "compose", "Run", "Policy", "UserError"} <= set(dir(pgrun))
    code = "import sys, pgrun; print(pgrun.UserError.__name__, 'torch' in sys.modules, 'hydra' in sys.modules)\n"
    code += "print(pgrun.compose(seed=3).seed, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["UserError", "False", "False", "3", "False"]
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        pgrun.tarin  # noqa: B018


def test_a_misspelt_argument_of_a_call() -> None:
    with pytest.raises(pgrun.UserError, match=r"^pgrun.evaluate has no argument episode; did you mean episodes=…\?$"):
        pgrun.evaluate("nowhere", episode=5)
    with pytest.raises(pgrun.UserError, match=r"^pgrun.train has no argument quite; did you mean quiet=…\?$"):
        pgrun.train(*SHORT, quite=True)
    with pytest.raises(pgrun.UserError, match=r"^pgrun.resume has no argument checkpoints; did you mean checkpoint="):
        pgrun.resume("nowhere", checkpoints="best")
    assert not Path("run").exists()
