"""The origin of a run: its command line, its environment, and the versions that it was made with."""

from __future__ import annotations

import platform
import shlex
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pgrun import __version__
from pgrun.config.packages import is_package
from pgrun.config.paths import config_dir
from pgrun.config.tuning import overrides_of, tuned_keys

PACKAGES = ("torch", "gymnasium", "numpy")
OWN = ("hydra.mode=", "hydra.sweep.")  # what a sweep adds to a job's own overrides, or Hydra to every command's


def origin(hydra: DictConfig | None, config: DictConfig, reproduces: str = "") -> dict[str, Any]:
    """Describe where a run comes from, as fields of result.json.

    Args:
        hydra: the `hydra` node that the run was composed with; None where that is lost.
        config: the run's config.
        reproduces: the run directory that it runs again, if it does.
    """
    return {
        **({"reproduces": reproduces} if reproduces else {}),
        "env_id": env_id(config.env),
        "command": "" if hydra is None else command_line(hydra),
        "tuned": [] if hydra is None else tuned_keys(hydra, config),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """List the versions that decide what a run computes."""
    found = {"pgrun": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def env_id(env: DictConfig) -> str:
    """Name the environment itself, which several configs may share: its id, or its class where it has none."""
    found = env.get("id") or OmegaConf.select(env, "world._target_") or env.get("_target_")
    return str(found)


def user_folder(hydra: DictConfig) -> str | None:
    """Find the folder of the user's configs that a run was composed of, beside the shipped one; None without one."""
    sources = [source for source in hydra.runtime.config_sources if source.schema == "file"]
    folders = [str(source.path) for source in sources if not is_package(source)]
    return next((folder for folder in folders if Path(folder) != config_dir()), None) if len(folders) > 1 else None


def command_line(hydra: DictConfig) -> str:
    """Write the command line that makes this run; of a sweep's job, the one that makes it alone."""
    job = str(hydra.mode).rpartition(".")[2] == "MULTIRUN"
    kept = [text for text in overrides_of(hydra, "hydra") if not text.startswith(OWN)]
    folder = user_folder(hydra)
    flags = [] if folder is None else ["--config-dir", folder]
    if hydra.job.config_name not in (None, "config"):
        flags += ["--config-name", str(hydra.job.config_name)]
    return shlex.join(["pgrun", *flags, *overrides_of(hydra), *([] if job else kept)])
