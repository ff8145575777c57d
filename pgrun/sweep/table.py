"""The table at the end of a sweep: the result of each job, and of each setting over its seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pgrun.errors import UserError
from pgrun.run.console import say, shown
from pgrun.sweep.folder import OVER, found, jobs_of, key_of, rounded
from pgrun.trust.files import read_yaml

LINES = 40  # the table's length at most: of more jobs or settings, only the best are shown
WIDTH = 70  # of a name, at most
Jobs = list[tuple[str, dict[str, Any]]]


def table(
    folder: Path, before: set[str], replaced: set[str], *, minimize: bool = False, records: str | None = ".hydra"
) -> int:
    """Print the results of a sweep's jobs, and the best of them.

    Args:
        folder: the sweep's; only folders in its list of jobs count.
        before: the jobs that were over before this session.
        replaced: jobs that failed and were done again in another folder.
        minimize: whether the lowest evaluation is the best.
        records: the name of Hydra's folder in a job's folder, which holds the job's command line.

    Returns:
        0 if all jobs ended well, else 1.
    """
    folders = {name for name in jobs_of(folder) or () if (folder / name).is_dir()}
    jobs = [(name, found(folder / name)) for name in sorted(folders - replaced, key=by_number)]
    if not jobs:
        return 0
    print_jobs(folder, jobs, before, minimize)
    settings = by_setting(folder, jobs, records or ".hydra")
    if any(len(values) > 1 for values, _ in settings.values()):
        print_settings(settings, minimize)
    elif finished := [(value, name) for name, result in jobs if (value := value_of(result)) is not None]:
        best, name = (min if minimize else max)(finished, key=lambda job: job[0])  # the first of equal ones
        say(f"best: {name} with {best:.1f}")
    return int(any(result["status"] not in OVER for _, result in jobs))


def value_of(result: dict[str, Any]) -> float | None:
    """Return a job's final evaluation, given the content of its result.json of any version."""
    value = result.get("eval_return_mean")
    return float(value) if isinstance(value, int | float) else None


def print_jobs(folder: Path, jobs: Jobs, before: set[str], minimize: bool) -> None:
    """Print a line for each job.

    If there are very many jobs, print only the best, and those that did not end well.
    """
    lines = jobs
    if len(jobs) > LINES:
        ranked = sorted(jobs, key=lambda job: goodness(value_of(job[1]), minimize))
        best = {name for name, _ in ranked[: LINES // 2]}
        lines = [job for job in jobs if job[0] in best or job[1]["status"] not in OVER][:LINES]
    width = min(max(len(name) for name, _ in lines), WIDTH)
    say(f"\n{'job':{width}}  {'status':16} {'evaluation':>10}")
    for name, result in lines:
        value = value_of(result)
        figure = "–" if value is None else f"{value:.1f}"
        status = result["status"] + (" before" if name in before else "")
        say(f"{cut(name, width):{width}}  {status:16} {figure:>10}")
    if len(lines) < len(jobs):
        say(f"and {len(jobs) - len(lines)} more jobs in {shown(folder.resolve())}")


def print_settings(settings: dict[str, tuple[list[float], int]], minimize: bool) -> None:
    """Print a line for each setting, best first: the mean over its seeds and its interval."""

    def rank(name: str) -> float:
        values = settings[name][0]
        return goodness(float(np.mean(values)) if values else None, minimize)

    names = sorted(settings, key=rank)
    width = min(max(len("setting"), *(len(name) for name in names)), WIDTH)
    say(f"\n{'setting':{width}}  {'seeds':>7} {'mean':>10}   95 % interval of the mean")
    for name in names[:LINES]:
        values, jobs = settings[name]
        count = str(len(values)) if len(values) == jobs else f"{len(values)} of {jobs}"
        mean = f"{np.mean(values):.1f}" if values else "–"
        low, high = interval(values)
        spread = f"[{low:.1f}, {high:.1f}]" if len(values) > 1 else "–"
        say(f"{cut(name, width):{width}}  {count:>7} {mean:>10}   {spread}")
    if len(names) > LINES:
        say(f"and {len(names) - LINES} more settings")
    values, _ = settings[names[0]]
    if values:
        seeds = f", the mean of {len(values)} seeds" if len(values) > 1 else " (one seed)"
        say(f"best: {names[0]} with {np.mean(values):.1f}{seeds}")


def goodness(value: float | None, minimize: bool) -> float:
    """Return a sort key for a value: the best first, missing values last."""
    return math.inf if value is None else value if minimize else -value


def by_setting(folder: Path, jobs: Jobs, records: str) -> dict[str, tuple[list[float], int]]:
    """Group the evaluations of jobs that differ only in their seed.

    A setting is named by those of its overrides that vary over the sweep.

    Returns:
        For each setting, the evaluations and the number of jobs.
    """
    lines = {name: overrides_of(folder / name / records / "overrides.yaml") for name, _ in jobs}
    known = [set(line) for line in lines.values() if line is not None]
    constant = set.intersection(*known) if len(known) > 1 else set()
    settings: dict[str, tuple[list[float], int]] = {}
    for name, result in jobs:
        line = lines[name]
        varied = None if line is None else [text for text in line if key_of(text) != "seed" and text not in constant]
        setting = name if varied is None else ", ".join(map(rounded, varied)) or "all"
        values, count = settings.get(setting, ([], 0))
        value = value_of(result)
        settings[setting] = [*values, value] if value is not None else values, count + 1
    return settings


def overrides_of(path: Path) -> list[str] | None:
    """Read a job's own part of the command line; None if it was never written."""
    try:
        content = read_yaml(path)
    except UserError:
        return None
    return sorted(map(str, content)) if isinstance(content, list) else None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Compute the 95 % interval of a mean of normal values by Student's t; NaN for fewer than two values."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = student(n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    mean = float(np.mean(values))
    return mean - half, mean + half


def student(df: int) -> float:
    """Compute the 97.5 % quantile of Student's t with `df` degrees of freedom, by integrating its density."""
    if df > 1000:
        return 1.96
    x = np.linspace(0.0, 15.0, 60_001)
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    density = scale * (1.0 + x * x / df) ** (-(df + 1) / 2)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)]) * (x[1] - x[0])
    return float(np.interp(0.475, mass, x))


def by_number(name: str) -> list[str | int]:
    """Return a sort key that puts 2_x before 10_x."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def cut(name: str, width: int) -> str:
    """Shorten a name to a width."""
    return name if len(name) <= width else f"{name[: width - 1]}…"
