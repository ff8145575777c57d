"""Fast composition of a sweep's jobs: those with the same config groups share the work."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from pgrun.compat.hydra import ConfigLoaderImpl, get_overrides_dirname


class Composer:
    """Composes jobs as Hydra's `load_sweep_config` does, in a tenth of its time where only values change.

    Hydra first composes the groups and then applies the values. So the first part is done once for each choice of
    groups.

    Args:
        loader: Hydra's.
        master: the sweep's config.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.bases: dict[tuple[str, ...], DictConfig] = {}
        self.quick = isinstance(loader, ConfigLoaderImpl) and not OmegaConf.select(master, "hydra.searchpath")

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """Compose the job with these overrides."""
        parsed = OverridesParser.create().parse_overrides(list(overrides)) if self.quick else []
        if not self.quick or any(override.is_hydra_override() for override in parsed):
            return self.loader.load_sweep_config(self.master, list(overrides))
        groups = [override for override in parsed if self.chooses_group(override)]
        lines = tuple(str(override.input_line) for override in groups)
        if lines not in self.bases:
            self.bases[lines] = self.loader.load_sweep_config(self.master, list(lines))
        config = copy.deepcopy(self.bases[lines])
        values = [override for override in parsed if override not in groups]
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        config.hydra.overrides.task = list(overrides)
        form = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=parsed, kv_sep=form.kv_sep, item_sep=form.item_sep, exclude_keys=form.exclude_keys
        )
        OmegaConf.copy_cache(from_config=self.master, to_config=config)
        return config

    def chooses_group(self, override: Override) -> bool:
        """Return whether an override chooses a group's member, by Hydra's own rule."""
        repository: Any = self.loader.repository  # type: ignore[attr-defined]
        return not isinstance(override.value(), dict) and repository.group_exists(override.key_or_group)
