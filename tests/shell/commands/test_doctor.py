"""`pgrun doctor RUN` on a real run, and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shell import pgrun_inside

import pgrun

DEAD = (
    *("algo=ppo", "env=pendulum", "tuned=none", "env.max_episode_steps=20", "algo.rollout=32", "total_steps=2048"),
    *("log.every=256", "eval.every=1024", "eval.episodes=2", "eval.final_episodes=2", "optimizer.lr=1e-9"),
)


@pytest.mark.slow
def test_a_run_that_stands_still_is_named(tmp_path: Path) -> None:
    run = pgrun.train(*DEAD, f"hydra.run.dir={tmp_path / 'run'}", quiet=True)
    diagnosis = pgrun.doctor(run)
    named = {finding.rule: finding for finding in diagnosis.findings}
    assert "learning-rate-low" in named
    assert "optimizer.lr=3e-4" in named["learning-rate-low"].command
    said = json.loads(pgrun_inside("doctor", "run", "--json", cwd=tmp_path).out)
    assert [finding["rule"] for finding in said["findings"]] == [finding.rule for finding in diagnosis.findings]


def test_no_run_is_one_line(tmp_path: Path) -> None:
    said = pgrun_inside("doctor", "nowhere", cwd=tmp_path)
    assert (said.code, said.line) == (
        2,
        "pgrun: nowhere is no run directory: there is no such folder; pgrun runs lists those here",
    )
