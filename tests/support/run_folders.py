"""Run directories as finished runs leave them, made by hand: for tests of what is done with many runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pgrun.run.curve_file import CurveRecorder


def run_folder(
    folder: Path,
    *,
    algo: str = "ppo",
    env: str = "cartpole",
    env_id: str = "CartPole-v1",
    seed: int = 0,
    score: float | None = 100.0,
    status: str = "finished",
    steps: int = 4000,
    overrides: tuple[str, ...] = (),
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    curve: list[tuple[int, float]] | None = None,
    reproduces: str = "",
    **result: Any,
) -> Path:
    """Write run.json, result.json and curves.npz; a status of "" leaves the run without an end."""
    folder.mkdir(parents=True)
    flat = {"seed": seed, "total_steps": 4000, "algo.gamma": 0.99, "optimizer.lr": 1e-3, **(config or {})}
    about = {"algo": algo, "env": env, "env_id": env_id, "seed": seed, "total_steps": 4000, "begun": 1.0}
    about |= {"overrides": [f"algo={algo}", f"env={env}", f"seed={seed}", *overrides], "resumed_with": []}
    about |= {"choices": {"algo": algo, "env": env, **(choices or {})}, "config": flat}
    about |= {"reproduces": reproduces} if reproduces else {}
    (folder / "run.json").write_text(json.dumps(about))
    if status:
        told = {"status": status, "env_steps": steps, "eval_return_mean": score, "wall_seconds": 10.0}
        told |= {"train_return_mean": score, "train_seconds": 8.0, "versions": {"torch": "2"}, **result}
        (folder / "result.json").write_text(json.dumps(told))
        recorder = CurveRecorder()
        value = 0.0 if score is None else score
        for step, x in curve or [(1000, value / 4), (2000, value / 2), (4000, value)]:
            recorder.add("eval/return", x, step)
            recorder.add("time/train_seconds", step / 500, step)
        recorder.write(folder)
    return folder
