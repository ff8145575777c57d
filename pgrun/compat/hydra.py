"""Private interfaces of Hydra: starting it, composing, its grid sweeper and file source, plugins of the same name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hydra._internal import hydra as application
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import _locate as locate
from hydra._internal.utils import _run_hydra as run_hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig

__all__ = [
    "BasicSweeper",
    "ConfigLoaderImpl",
    "FileConfigSource",
    "check_before_callbacks",
    "drop_namesakes",
    "get_args_parser",
    "get_overrides_dirname",
    "locate",
    "run_hydra",
    "serve_files_by",
    "source_of_files",
]


def check_before_callbacks(check: Callable[[DictConfig], None]) -> None:
    """Have a function called with each composed config before Hydra makes the callbacks that it names."""

    class Checked(Callbacks):
        """Hydra's callbacks, after that."""

        def __init__(self, config: DictConfig | None = None) -> None:
            if config is not None:
                check(config)
            super().__init__(config)

    application.Callbacks = Checked  # type: ignore[misc,attr-defined]


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


def source_of_files(source: type[FileConfigSource]) -> type[FileConfigSource]:
    """Decorate a config source, so that Hydra uses it under the name of its own file source.

    Hydra takes no second source for files, only for other schemes, and looks for plugins again in a launcher's
    workers. There the source comes out of a pickle, so it has to have that name as soon as its module is imported.
    """
    source.__name__ = FileConfigSource.__name__
    return source


def serve_files_by(source: type[FileConfigSource]) -> None:
    """Have Hydra read config files by a `source_of_files` instead of its own."""
    SourcesRegistry.instance().types["file"] = source
