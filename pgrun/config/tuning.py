"""Tuned values of a pair of algorithm and environment: the group `tuned`, and those within it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from pgrun.config.suggest import nearest
from pgrun.errors import UserError


def overrides_of(hydra: DictConfig, part: str = "task") -> list[str]:
    """List a command line's overrides as they were typed: an interpolation in one is for the config that it changes.

    Args:
        hydra: a `hydra` node.
        part: task, or hydra for those of Hydra's own keys.
    """
    found = OmegaConf.to_container(hydra.overrides)
    assert isinstance(found, dict)
    return [str(text) for text in found[part]]


def tuned_keys(hydra: DictConfig, config: DictConfig) -> list[str]:
    """List the keys that files under configs/tuned changed, in their order, without those that the user gave."""
    given = {text.lstrip("+~").partition("=")[0] for text in overrides_of(hydra)}
    folders = [Path(str(source.path)) for source in hydra.runtime.config_sources if source.schema == "file"]
    found: dict[str, None] = {}
    for choice, name in sorted(hydra.runtime.choices.items(), key=lambda pair: str(pair[0])):
        group, _, package = str(choice).partition("@")
        if group != "tuned" and not group.startswith("tuned/"):
            continue
        prefix = f"{package}." if package else ""
        for key in keys_of(folders, group, str(name)):
            whole = prefix + key
            if whole not in given and OmegaConf.select(config, whole, default=given) is not given:
                found[whole] = None
    return list(found)


def keys_of(folders: list[Path], group: str, name: str) -> list[str]:
    """List the dotted keys that a group's file sets, with those of files beside it that it takes over."""
    path = next((f / group / f"{name}.yaml" for f in folders if (f / group / f"{name}.yaml").exists()), None)
    if path is None:
        return []
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    beside = [each for each in content.pop("defaults", None) or [] if isinstance(each, str) and each != "_self_"]
    inherited = [key for each in beside for key in keys_of(folders, group, each)]
    return list(dict.fromkeys([*inherited, *leaves(content)]))


def leaves(content: dict[Any, Any], prefix: str = "") -> list[str]:
    """List the dotted keys of nested values."""
    found: list[str] = []
    for key, value in content.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
    return found


def describe_tuning(tuned: list[str], names: dict[str, str], choice: str | None) -> str:
    """Say what was tuned, in words.

    Args:
        tuned: the keys.
        names: the algorithm and the environment, as they were chosen.
        choice: the member of the group `tuned`, which may be another pair's.
    """
    pair = f"{names['algo']} on {names['env']}"
    if choice == "none":
        return "nothing tuned (tuned=none)"
    if not tuned:
        return f"nothing is tuned for {pair}"
    whose = pair if choice in (None, f"{names['algo']}_{names['env']}") else choice
    return f"tuned for {whose}: {', '.join(tuned)}"


def check_tuning(config: DictConfig) -> None:
    """Refuse a member of the group `tuned` that no file is called after: Hydra passes over one that it doesn't find.

    Args:
        config: a run's or a sweep's, with its `hydra` node.

    Raises:
        UserError: the command line asks for one that is not there.
    """
    loader = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides_of(config.hydra))
    asked: list[str] = []
    for override in parsed:
        if override.key_or_group == "tuned" and not override.is_delete():
            asked += override.sweep_string_iterator() if override.is_sweep_override() else [str(override.value())]
    if not asked:
        return
    names = set(loader.get_group_options("tuned"))
    for group in loader.get_group_options("tuned", ObjectType.GROUP):
        names |= set(loader.get_group_options(f"tuned/{group}"))
    for name in asked:
        if name != "none" and not any(each == name or each.startswith(f"{name}_") for each in names):
            close = ", ".join(nearest(name, sorted(names), 3))
            raise UserError(
                f"tuned={name} is not known: tuned=none drops what was tuned, tuned=ALGO_ENV takes it from another "
                f"pair ({close}, …)"
            )
