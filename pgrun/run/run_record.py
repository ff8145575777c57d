"""The file run.json: what a run is, in a form that is quick to read. It is written when the run begins."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pgrun.config.tuning import overrides_of
from pgrun.run.result_file import write_result
from pgrun.system.atomic import told as telling

FILE = "run.json"


def write_record(
    folder: Path,
    config: DictConfig,
    names: dict[str, str],
    origin: dict[str, Any],
    hydra: DictConfig | None,
    told: Sequence[str] = (),
) -> None:
    """Write run.json: names, seed, what was typed and chosen, the composed config, and when the run began.

    Args:
        folder: the run directory.
        config: the run's config.
        names: the `algo` and `env` that were chosen.
        origin: where the run comes from, as `pgrun.run.origin.origin` describes it.
        hydra: the `hydra` node that the config was composed with, if that is known.
        told: the changes that `pgrun resume` was told.
    """
    from pgrun.run.directory import flat

    choices = {} if hydra is None else {key: str(value) for key, value in hydra.runtime.choices.items()}
    content = {
        **names,
        "env_id": origin["env_id"],
        "seed": int(config.seed),
        "total_steps": int(config.total_steps),
        "begun": round(time.time(), 3),
        "command": origin["command"],
        "overrides": [] if hydra is None else overrides_of(hydra),
        "resumed_with": list(told),
        "choices": {key: value for key, value in choices.items() if not key.startswith(("hydra/", "tuned/"))},
        "versions": origin["versions"],
        "config": flat(config),
    }
    content |= {"reproduces": origin["reproduces"]} if "reproduces" in origin else {}
    content |= earlier(folder)
    with telling("can't write into", folder):
        write_result(folder, content, FILE)


def earlier(folder: Path) -> dict[str, Any]:
    """Return what stays as the run's first session wrote it: when it began, and what it reproduces."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        kept = {"reproduces": str(content["reproduces"])} if "reproduces" in content else {}
        return {"begun": float(content["begun"]), **kept}
    return {}
