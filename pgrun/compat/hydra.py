"""Private interfaces of Hydra: starting it, composing quickly, its grid sweeper, and plugins of the same name."""

from __future__ import annotations

from hydra._internal.config_loader_impl import ConfigLoaderImpl as ConfigLoaderImpl
from hydra._internal.config_loader_impl import get_overrides_dirname as get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper as BasicSweeper
from hydra._internal.utils import _run_hydra as run_hydra
from hydra._internal.utils import get_args_parser as get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from pgrun.config.paths import config_dir

__all__ = ["run_hydra"]


def drop_namesakes() -> None:
    """Remove the configs of Hydra's own plugins for joblib, Ray and Optuna, so that pgrun's have their names."""
    Plugins.instance()  # imports the plugins, which store their configs
    for path in (config_dir() / "hydra").rglob("*.yaml"):
        *folders, name = path.relative_to(config_dir()).parts
        group = ConfigStore.instance().repo
        for folder in folders:
            group = group.get(folder, {})
        group.pop(name, None)
