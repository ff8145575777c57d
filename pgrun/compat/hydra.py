"""Private interfaces of Hydra: starting it, composing, its grid sweeper and file source, plugins of the same name."""

from __future__ import annotations

from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import _locate as locate
from hydra._internal.utils import _run_hydra as run_hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

__all__ = [
    "BasicSweeper",
    "ConfigLoaderImpl",
    "FileConfigSource",
    "drop_namesakes",
    "get_args_parser",
    "get_overrides_dirname",
    "locate",
    "run_hydra",
    "serve_files_by",
]


def drop_namesakes(folder: Path) -> None:
    """Give pgrun's plugins for joblib, Ray and Optuna the names of Hydra's own, where these are installed too.

    Args:
        folder: of the shipped configs.
    """
    Plugins.instance()  # imports the plugins, which store their configs
    for path in (folder / "hydra").rglob("*.yaml"):
        *folders, name = path.relative_to(folder).parts
        group = ConfigStore.instance().repo
        for part in folders:
            group = group.get(part, {})
        group.pop(name, None)


def serve_files_by(source: type[FileConfigSource]) -> None:
    """Have Hydra read config files by a source of pgrun's: it takes no second one for files, only other schemes."""
    source.__name__ = FileConfigSource.__name__  # by which Hydra knows it, when it looks for plugins once more
    SourcesRegistry.instance().types["file"] = source
