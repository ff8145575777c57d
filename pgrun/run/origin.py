"""The origin of a run: its command line, its environment, and the versions of the packages."""

from __future__ import annotations

import platform
import shlex
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pgrun import __version__
from pgrun.config.paths import config_dir
from pgrun.config.tuning import overrides_of, tuned_keys

PACKAGES = ("torch", "gymnasium", "numpy")
OWN = ("hydra.mode=", "hydra.sweep.")  # overrides that a sweep or Hydra itself adds


def origin(hydra: DictConfig | None, config: DictConfig) -> dict[str, Any]:
    """Describe where a run comes from, as fields of result.json.

    Args:
        hydra: the `hydra` node that the run was composed with; None where that is lost.
        config: the run's config.
    """
    return {
        "env_id": env_id(config.env),
        "command": "" if hydra is None else command_line(hydra),
        "tuned": [] if hydra is None else tuned_keys(hydra, config),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """List the versions of packages that affect a run's numbers."""
    by_name = {"pgrun": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            by_name[name] = version(name)
        except PackageNotFoundError:
            by_name[name] = ""
    return by_name


def env_id(env: DictConfig) -> str:
    """Return the environment's own name, which several configs may share: its id, else its class."""
    name = env.get("id") or OmegaConf.select(env, "world._target_") or env.get("_target_")
    return str(name)


def command_line(hydra: DictConfig) -> str:
    """Return the command line that makes this run; for a sweep's job, one that makes it alone."""
    job = str(hydra.mode).rpartition(".")[2] == "MULTIRUN"
    kept = [text for text in overrides_of(hydra, "hydra") if not text.startswith(OWN)]
    folders = [source.path for source in hydra.runtime.config_sources if source.schema == "file"]
    folders = [folder for folder in folders if Path(str(folder)) != config_dir()]  # the user's own
    flags = [word for folder in folders for word in ("--config-dir", str(folder))]
    if hydra.job.config_name not in (None, "config"):
        flags += ["--config-name", str(hydra.job.config_name)]
    return shlex.join(["pgrun", *flags, *overrides_of(hydra), *([] if job else kept)])
