"""The messages of a run as it begins: its first line, and its pages in TensorBoard."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pgrun.config.tuning import describe_tuning, overrides_of
from pgrun.nn.normalize import RunningNorm
from pgrun.run.build import Parts
from pgrun.run.console import shown
from pgrun.run.result_file import flatten
from pgrun.run.tensorboard import code_block

PLAIN = (bool, int, float, str)


def first_line(
    folder: Path, names: dict[str, str], parts: Parts, steps: int, origin: dict[str, Any], hydra: DictConfig | None
) -> str:
    """Describe where a run writes, on which device it learns, and with what tuning."""
    learns = parts.algorithm.device
    acts = getattr(getattr(parts.collector, "actor", None), "device", learns)
    device = str(learns) if acts == learns else f"{learns}, acting on {acts}"
    workers = f" by {parts.team.workers} processes" if parts.team.workers > 1 else ""
    where = f"{names['algo']} on {names['env']} ({origin['env_id']}), into {shown(folder)}, on {device}{workers}"
    where += f", from step {steps:,}" if steps else ""
    if hydra is None:
        return where
    return f"{where}; {describe_tuning(origin['tuned'], names, hydra.runtime.choices.get('tuned'))}"


def texts(folder: Path, origin: dict[str, Any], config: DictConfig, told: Sequence[str]) -> dict[str, str]:
    """Format the pages of TensorBoard's text tab: the command line and the config.

    Args:
        folder: the run directory.
        origin: where the run comes from, as returned by `pgrun.run.origin.origin`.
        config: the run's config.
        told: the changes that `pgrun resume` was told.
    """
    lines = [origin["command"]] if origin["command"] else []
    if told:
        lines.append(shlex.join(["pgrun", "resume", str(shown(folder)), *told]))
    pages = {"command": code_block("\n".join(lines), "sh")} if lines else {}
    return {**pages, "config": code_block(OmegaConf.to_yaml(config, resolve=True), "yaml")}


def hyperparameters(
    config: DictConfig, names: dict[str, str], hydra: DictConfig | None
) -> dict[str, bool | float | str]:
    """Choose the columns of a row in the HParams tab: algorithm, environment, seed, and what the command line set.

    The command line sets everything that varies over a sweep.

    Args:
        config: the run's.
        names: the algorithm and the environment, as they were chosen.
        hydra: the `hydra` node that the run was composed with, if that is known.
    """
    columns: dict[str, Any] = {**names, "seed": config.seed}
    for text in [] if hydra is None else overrides_of(hydra):
        key = text.lstrip("+~").partition("=")[0]
        group = key.partition("@")[0]
        if key in columns or group == "sweep" or text.startswith("~"):
            continue
        if hydra is not None and key in hydra.runtime.choices:
            columns[key] = str(hydra.runtime.choices[key])
            continue
        value = OmegaConf.select(config, key)
        if OmegaConf.is_dict(value):
            columns |= {f"{key}.{name}": x for name, x in flatten(OmegaConf.to_container(value)).items()}
        else:
            columns[key] = "null" if value is None else value if isinstance(value, PLAIN) else str(value)
    return columns


def curves(parts: Parts) -> dict[str, float]:
    """Return the values of curves that no update measures: schedules, figures of memory and normalisers."""
    schedules: dict[str, float] = getattr(parts.algorithm, "schedules", dict)()
    memory: dict[str, float] = getattr(parts.memory, "figures", dict)()
    norms = [module for module in parts.algorithm.modules() if isinstance(module, RunningNorm)]
    rows = min((float(norm.count) for norm in norms), default=None)  # that the statistics are of
    seen = {} if rows is None else {"network/normalizer_rows": rows}
    return {**schedules, **{f"memory/{name}": value for name, value in memory.items()}, **seen}
