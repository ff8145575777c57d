"""Resolve a composed config: interpolations become values, and old targets get their names of today."""

from __future__ import annotations

from omegaconf import DictConfig, ListConfig, OmegaConf

from pgrun.config.renamed import new_name, renew


def resolved(config: DictConfig) -> DictConfig:
    """Copy a config without its `hydra` node, with interpolations resolved and targets under their names of today."""
    task = OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"])
    return DictConfig(OmegaConf.create(renew(OmegaConf.to_container(task, resolve=True))))


def renew_targets(config: DictConfig | ListConfig) -> None:
    """Rename the targets of a composed config in place, if a user's file has those of version 0.1."""
    for key in config.keys() if isinstance(config, DictConfig) else range(len(config)):
        node = config._get_node(key)  # type: ignore[arg-type]
        if isinstance(node, DictConfig | ListConfig) and not (node._is_none() or node._is_interpolation()):
            renew_targets(node)
        elif key == "_target_" and isinstance(config, DictConfig) and not OmegaConf.is_missing(config, key):
            target = OmegaConf.to_container(config, resolve=False)[key]  # type: ignore[index,call-overload]
            if isinstance(target, str) and (new := new_name(target)) != target:
                config[key] = new
