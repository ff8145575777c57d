"""A mistake in a part of one's own is one line that names the part, and leaves a traceback in the log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from shell import Said, pgrun_inside

from pgrun.config import templates
from pgrun.errors import EnvFailed, UserError
from pgrun.run.own_code import failure_of, own_parts

SHORT = ("num_envs=2", "total_steps=128", "eval.every=null", "eval.final_episodes=1", "hydra.run.dir=run")


def run_with(kind: str, number: int, folder: Path, *changes: tuple[str, str]) -> Said:
    """Write a part from its template, change its code, and train with it."""
    name = f"wrong_{kind}_{number}"  # a module's name of its own, as all runs share this process
    templates.write(kind, name, folder)
    file = folder / f"{name}.py"
    text = file.read_text()
    for before, after in changes:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    file.write_text(text)
    words = {"algo": (f"algo={name}",), "network": ("algo=a2c", f"network={name}")}
    words["memory"] = ("algo=a2c", f"memory={name}")
    return pgrun_inside("--config-dir", "conf", *words[kind], "env=cartpole", *SHORT, cwd=folder)


def quick(cases: Mapping[str, object], one: str) -> list[Any]:
    """Mark all cases but one as slow."""
    return [name if name == one else pytest.param(name, marks=pytest.mark.slow) for name in cases]


LOSS = 'return policy + self.value_coef * critic, {"loss/policy": policy.detach(), "loss/value": critic.detach()}'
MADE = {  # nothing is written then
    "no update": ("algo", [("def update(self", "def learn(self")], "lacks the method update(batch)"),
    "no loss": ("algo", [("    def loss(self", "    def los(self")], "has no attribute 'loss' (wrong_algo_1.py:22)"),
    "no super": ("algo", [("super().__init__(**common)", "pass")], "failed in __init__: AttributeError"),
    "no encoder": ("network", [("def encoder(self", "def network_of(self")], "lacks the method encoder"),
    "no features": ("network", [("self.features = width", "self.width = width")], "does not fit: AttributeError"),
}
LATER = {
    "only metrics": ("algo", [(LOSS, 'return {"loss/policy": policy}')], "its loss has to return the loss and a dict"),
    "only a loss": ("algo", [(LOSS, "return policy")], "its loss has to return the loss and a dict of metrics"),
    "a wrong key": ("algo", [('["psi"]', '["psy"]')], "failed in loss: KeyError: 'psy' (wrong_algo_7.py:31)"),
    "a wrong layer": (
        "network",
        [("self.first = nn.Linear(flat_size(space), width)", "self.first = nn.Linear(7, width)")],
        "failed in forward: RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "wrong features": ("network", [("self.features = width", "self.features = width + 1")], "does not fit: Runtime"),
}
METRICS = {
    "a number": ('"loss/policy": policy.detach()', '"loss/policy": 0.5', "the metric loss/policy is a float"),
    "with an axis": (
        '"loss/policy": policy.detach()',
        '"loss/policy": batch.reward',
        "the metric loss/policy is of shape [16, 2]: an update returns tensors without an axis",
    ),
}


@pytest.mark.parametrize("name", quick(MADE, "no encoder"))
def test_what_cannot_be_made_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    kind, changes, why = MADE[name]
    done = run_with(kind, list(MADE).index(name), tmp_path, *changes)
    assert done.code == 2, done.err
    assert why in done.line
    assert f"wrong_{kind}_{list(MADE).index(name)}." in done.line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", quick(LATER, "a wrong key"))
def test_what_fails_on_the_way_is_one_line_with_the_traceback_in_the_log(name: str, tmp_path: Path) -> None:
    kind, changes, why = LATER[name]
    done = run_with(kind, 5 + list(LATER).index(name), tmp_path, *changes)
    assert done.code == 1, done.err
    assert why in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert "the traceback is in run/pgrun.log" in done.err
    assert "Traceback (most recent call last)" in (tmp_path / "run" / "pgrun.log").read_text()
    assert '"status": "failed"' in (tmp_path / "run" / "result.json").read_text()


@pytest.mark.parametrize("name", quick(METRICS, ""))
def test_metrics_that_are_no_numbers_are_named(name: str, tmp_path: Path) -> None:
    before, after, why = METRICS[name]
    done = run_with("algo", 20 + list(METRICS).index(name), tmp_path, (before, after))
    assert done.code in (1, 2)
    assert why in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_a_mistake_of_pgrun_s_own_is_nobody_else_s() -> None:
    config = OmegaConf.create({"algo": {"_target_": "pgrun.algos.ppo.PPO"}, "env": {"_target_": "mine.Env"}})
    assert failure_of(ZeroDivisionError(), config) is None
    own = OmegaConf.create({"algo": {"_target_": "mine.Algo"}, "network": {"_target_": "pgrun.nn.MLP"}})
    assert own_parts(own) == {"algo": "mine.Algo"}
    assert failure_of(UserError("told"), own) is None
    failed = EnvFailed("the environment")
    assert failure_of(failed, own) is failed
