"""Hydra's inside: starting it, composing quickly, plugins of the same name, its grid sweeper, its source of files."""

from __future__ import annotations

from hydra._internal.config_loader_impl import ConfigLoaderImpl as ConfigLoaderImpl
from hydra._internal.config_loader_impl import get_overrides_dirname as get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper as BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource as FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import _run_hydra as run_hydra
from hydra._internal.utils import get_args_parser as get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from pgrun.config.paths import config_dir

__all__ = ["run_hydra"]


def drop_namesakes() -> None:
    """Give pgrun's plugins for joblib, Ray and Optuna the names of Hydra's own, where these are installed too."""
    Plugins.instance()  # imports the plugins, which store their configs
    for path in (config_dir() / "hydra").rglob("*.yaml"):
        *folders, name = path.relative_to(config_dir()).parts
        group = ConfigStore.instance().repo
        for folder in folders:
            group = group.get(folder, {})
        group.pop(name, None)


def serve_files_by(source: type[FileConfigSource]) -> None:
    """Have Hydra read config files by a source of pgrun's: it takes no second one for files, only other schemes."""
    SourcesRegistry.instance().types["file"] = source
