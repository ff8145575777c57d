"""Config files as Hydra finds them: each section of a tuned file is one of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from pgrun.compat.hydra import FileConfigSource, serve_files_by, source_of_files
from pgrun.config.files import shown
from pgrun.config.packages import PROVIDER, packages
from pgrun.config.paths import config_dir
from pgrun.config.tuned_file import GROUP, WHERE, asked_for, sections, split

READ: dict[tuple[Any, ...], bytes] = {}  # files as they were read, pickled, by file and its time of change


@source_of_files
class ConfigFiles(FileConfigSource):
    """A folder of config files. All but those of the group `tuned` are as Hydra has them.

    A folder that has a pair's file has all of its sections too: where a user's file takes the place of a shipped one,
    nothing of the shipped one is left.
    """

    def is_config(self, config_path: str) -> bool:
        """Tell whether a config is there; a section counts as there as soon as its pair has a file."""
        pair, section = split(config_path)
        if section.endswith("="):  # of a group that nothing is chosen of
            return False
        path = f"{GROUP}/{pair}" if pair else config_path
        return super().is_config(path) and not self.hidden(path)

    def hidden(self, config_path: str) -> bool:
        """Return whether this is an installed package's file with the name of one of pgrun's, which counts."""
        return self.provider.startswith(PROVIDER) and (config_dir() / self._normalize_file_name(config_path)).is_file()

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a config: a file, what a pair's file asks for, or one section of it."""
        pair, section = split(config_path)
        result = self.read(f"{GROUP}/{pair}" if pair else config_path)
        if not config_path.startswith(f"{GROUP}/") or not isinstance(result.config, DictConfig):
            return result
        content: Any = OmegaConf.to_container(result.config)
        path = shown(Path(self.path, GROUP, f"{pair}.yaml"))
        if section:
            result.config, result.header = OmegaConf.create(sections(content, path).get(section, {})), {"package": None}
        elif pair:
            defaults = asked_for(pair, content, path)
            result.config, result.header = OmegaConf.create({"defaults": defaults}), {"package": "_global_"}
        else:
            result.config = OmegaConf.create({key: value for key, value in content.items() if key != WHERE})
        return result

    def read(self, config_path: str) -> ConfigResult:
        """Read a file; it is parsed again only if it has changed, as the jobs of a sweep compose the same files."""
        try:
            stat = Path(self.path, self._normalize_file_name(config_path)).stat()
        except OSError:
            return super().load_config(config_path)  # which says what is wrong
        key = (self.provider, self.path, config_path, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if key not in READ:
            READ[key] = pickle.dumps(super().load_config(config_path))
        result: ConfigResult = pickle.loads(READ[key])
        return result


class TunedSections(SearchPathPlugin):
    """The plugin through which Hydra reads config files by `ConfigFiles`, those of installed packages too.

    Hydra asks its search path plugins before it looks for any file.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put `ConfigFiles` in the place of Hydra's own source of files, and add the packages' folders."""
        serve_files_by(ConfigFiles)
        for package in packages():
            search_path.append(provider=f"{PROVIDER}{package.name}", path=f"file://{package.folder}")
