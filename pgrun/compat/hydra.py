"""Private interfaces of Hydra: starting it, its state, its grid sweeper and file source, plugins of the same name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal import hydra as application
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import _run_hydra as run_hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.basecontainer import BaseContainer

__all__ = [
    "BasicSweeper",
    "ConfigLoaderImpl",
    "FileConfigSource",
    "check_before_callbacks",
    "composed",
    "drop_namesakes",
    "get_args_parser",
    "get_overrides_dirname",
    "hydra_kept",
    "run_hydra",
    "run_once",
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


@contextmanager
def begun(folders: Sequence[Path]) -> Iterator[Hydra]:
    """Start Hydra for the block on config folders, of which the first comes first, as its command line does.

    Args:
        folders: one or two.
    """
    path = create_config_search_path(str(folders[0]))
    for folder in folders[1:]:
        path.prepend(provider="command-line", path=f"file://{folder}", anchor="schema")
    try:
        yield Hydra.create_main_hydra2(task_name="pgrun", config_search_path=path)
    finally:
        GlobalHydra.instance().clear()


def run_once(
    task: Callable[[DictConfig], Any], folders: Sequence[Path], config_name: str, overrides: Sequence[str]
) -> None:
    """Let Hydra compose a config and run the task on it, but leave the caller's logging as it is."""
    with begun(folders) as hydra:
        more = [*overrides, "hydra.mode=RUN"]
        hydra.run(config_name=config_name, task_function=task, overrides=more, with_log_configuration=False)


@contextmanager
def composed(folders: Sequence[Path], config_name: str, overrides: Sequence[str]) -> Iterator[DictConfig]:
    """Compose a config, with its `hydra` node, as for a run; Hydra is there to compose others in the block."""
    with begun(folders) as hydra:
        yield hydra.compose_config(config_name, list(overrides), run_mode=RunMode.RUN)


OF_ONE_CALL = (GlobalHydra, HydraConfig, version.VersionBase, JobRuntime)


@contextmanager
def hydra_kept() -> Iterator[None]:
    """Give the block a Hydra of its own, and leave the caller's afterwards as it was: its app, store and resolvers."""
    Plugins.instance()  # plugins store their configs once a process, so this has to come first
    instances, store = Singleton._instances, ConfigStore.instance()
    before: dict[type, Any] = {kind: instances.pop(kind) for kind in OF_ONE_CALL if kind in instances}
    repo, resolvers = store.repo, dict(BaseContainer._resolvers)
    store.repo = groups_copied(repo)
    try:
        yield
    finally:
        for kind in OF_ONE_CALL:
            instances.pop(kind, None)
        instances.update(before)
        store.repo = repo
        BaseContainer._resolvers.clear()
        BaseContainer._resolvers.update(resolvers)


def groups_copied(repo: dict[str, Any]) -> dict[str, Any]:
    """Copy the groups of a config store, which hold the same configs."""
    return {name: groups_copied(part) if isinstance(part, dict) else part for name, part in repo.items()}
