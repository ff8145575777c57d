"""The shipped recipes learn: one seed each, at the floor of scripts/learning.py less a margin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shell import pgrun


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "floor"),
    [
        (["algo=ppo", "env=cartpole"], 475),
        (["algo=reinforce", "env=cartpole", "total_steps=300_000"], 400),
        (["algo=a2c", "env=cartpole", "total_steps=500_000"], 400),
        (["algo=ppo", "env=pendulum"], -230),
        (["algo=vmpo", "env=cartpole", "total_steps=100_000"], 450),
        (["algo=sac", "env=pendulum", "total_steps=8_000"], -210),
        (["algo=redq", "env=pendulum", "total_steps=4_000"], -210),
    ],
    ids=lambda value: "-".join(a.split("=")[1] for a in value[:2]) if isinstance(value, list) else "",
)
def test_learns(arguments: list[str], floor: float, tmp_path: Path) -> None:
    said = pgrun(*arguments, "hydra.run.dir=run", "eval.every=null", cwd=tmp_path)
    assert said.code == 0, said.err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["eval_return_mean"] >= floor
