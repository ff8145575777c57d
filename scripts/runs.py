"""Helpers that the scripts share: run pgrun, each run only once, and summarise several seeds."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap, trim_mean

ROOT = Path(__file__).resolve().parent.parent
CODE = ("pgrun", "configs", "hydra_plugins")  # a commit that changes none of these changes no figure


def shown(env: str) -> str:
    """Return an environment's name as Gymnasium spells it: CartPole for cartpole."""
    return {"cartpole": "CartPole", "halfcheetah": "HalfCheetah"}.get(env, env.capitalize())


def execute(command: list[str], folder: Path, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run `pgrun …` or `python …` with this interpreter and this package, in a folder.

    Args:
        command: its words.
        folder: made if it isn't there.
        seconds: after which it is killed; None: never.

    Raises:
        subprocess.TimeoutExpired: it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, *(["-m", "pgrun"] if command[0] == "pgrun" else []), *command[1:]]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, capture_output=True, text=True, env=env, cwd=folder, timeout=seconds)


def code_commit() -> str:
    """Name the last commit that changed the code; with a + if the code is changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words, "--", *CODE], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return git("log", "-1", "--format=%h") + "+" * bool(git("status", "--porcelain"))


def result(place: Path) -> dict[str, Any] | None:
    """Read the figures of a run directory; None if no run has finished there."""
    file = place / "result.json"
    found = json.loads(file.read_text()) if file.exists() else None
    return found if found and found["status"] == "finished" else None


def train(place: Path, command: list[str]) -> str:
    """Train into a run directory, from its checkpoint if there is one; do nothing if the run is finished.

    Returns:
        The first line that pgrun printed; empty if there was nothing to do.
    """
    if result(place):
        return ""
    begun = (place / ".hydra").exists()
    command = ["pgrun", "resume", str(place)] if begun else [*command, f"hydra.run.dir={place}"]
    done = execute(command, place.parent)
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return said[0] if said else f"exit code {done.returncode}"


def read_lines(path: Path) -> list[dict[str, str]]:
    """Read the lines of a CSV; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_lines(path: Path, fields: Sequence[str], lines: Iterable[dict[str, str]]) -> None:
    """Write a CSV, and the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def scalars(place: Path, tag: str, seconds: bool = False) -> tuple[list[float], list[float]]:
    """Read a curve of a run's TensorBoard file: steps, or seconds since its first point, and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(place), size_guidance={"scalars": 0})
    events.Reload()
    points = events.Scalars(tag)
    return [p.wall_time - points[0].wall_time if seconds else p.step for p in points], [p.value for p in points]


def iqm(means: np.ndarray) -> float:
    """Compute the interquartile mean: the mean of the middle half."""
    return float(trim_mean(means, 0.25))


def interval(means: np.ndarray) -> tuple[float, float]:
    """Compute the 95 % percentile-bootstrap interval of the IQM over seeds."""
    if np.ptp(means) == 0:
        return float(means[0]), float(means[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = bootstrap(
            (means,),
            lambda x, axis: trim_mean(x, 0.25, axis=axis),
            n_resamples=9_999,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return float(found.low), float(found.high)
