"""The table at a sweep's end: each setting over its seeds, and only what fits of very many jobs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.stats import t as student_t

from pgrun.sweep import folder as sweep
from pgrun.sweep.table import by_setting, interval, student, table


def job(folder: Path, name: str, overrides: list[str], value: float | None, status: str = "finished") -> None:
    """A job of a sweep that has ended."""
    (folder / name / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(overrides), folder / name / ".hydra" / "overrides.yaml")
    (folder / name / "result.json").write_text(json.dumps({"status": status, "eval_return_mean": value}))
    sweep.enlist(folder, [name])


@pytest.mark.parametrize("df", [1, 2, 3, 5, 10, 30, 200])
def test_student_s_quantile(df: int) -> None:
    assert student(df) == pytest.approx(student_t.ppf(0.975, df), rel=1e-5)


def test_the_interval_is_student_s() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, 5)
    low, high = student_t.interval(0.95, 4, np.mean(x), np.std(x, ddof=1) / np.sqrt(5))
    assert interval(list(x)) == pytest.approx((low, high))


def test_settings_over_their_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, (lr, seed, value) in enumerate([(1, 0, 1.0), (1, 1, 3.0), (2, 0, 9.0), (2, 1, None)]):
        status = "finished" if value is not None else "failed"
        job(tmp_path, f"{i}_lr={lr},seed={seed}", [f"lr={lr}", "env=x", f"seed={seed}"], value, status)
    assert table(tmp_path, set(), set()) == 1
    lines = capsys.readouterr().out.splitlines()
    where = next(i for i, line in enumerate(lines) if line.startswith("setting"))
    assert re.split(r"  +", lines[where + 1]) == ["lr=2", "1 of 2", "9.0", "–"]
    assert re.split(r"  +", lines[where + 2]) == ["lr=1", "2", "2.0", "[-10.7, 14.7]"]
    assert lines[where + 3] == "best: lr=2 with 9.0 (one seed)"
    table(tmp_path, set(), set(), minimize=True)
    assert "best: lr=1 with 2.0, the mean of 2 seeds" in capsys.readouterr().out


def test_jobs_of_one_seed_each_have_no_second_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lr in (1, 2):
        job(tmp_path, f"{lr}_lr={lr}", [f"lr={lr}"], float(lr))
    assert table(tmp_path, set(), set()) == 0
    said = capsys.readouterr().out
    assert "setting" not in said
    assert "best: 2_lr=2 with 2.0" in said


@pytest.mark.parametrize("minimize", [False, True])
def test_of_equal_jobs_the_first_is_the_best(
    minimize: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lr in (2, 9, 10):
        job(tmp_path, f"{lr}_lr={lr}", [f"lr={lr}"], 60.0)
    table(tmp_path, set(), set(), minimize=minimize)
    assert "best: 2_lr=2 with 60.0" in capsys.readouterr().out


def test_of_many_jobs_the_best_and_the_failed_have_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(100):
        failed = i == 3
        job(tmp_path, f"{i}_seed={i}", [f"seed={i}"], None if failed else float(i), "failed" if failed else "finished")
    assert table(tmp_path, set(), set()) == 1
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 35
    assert "3_seed=3  " in said
    assert "99_seed=99" in said
    assert "and 79 more jobs in " in said
    assert "best: all with " in said
    assert "the mean of 99 seeds" in said


def test_numbers_that_a_sampler_drew_are_short(tmp_path: Path) -> None:
    for seed in (0, 1):
        job(tmp_path, f"{seed}", ["x=0.00123456789", f"seed={seed}", "y=1"], 1.0)
    job(tmp_path, "2", ["x=0.5", "seed=0", "y=1"], 1.0)
    jobs = [(name, sweep.found(tmp_path / name)) for name in ("0", "1", "2")]
    assert by_setting(tmp_path, jobs, ".hydra") == {"x=0.001235": ([1.0, 1.0], 2), "x=0.5": ([1.0], 1)}
