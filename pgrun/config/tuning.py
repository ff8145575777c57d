"""Tuned values of a pair of algorithm and environment: which they are, in words, and whether there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from pgrun.config.packages import is_package
from pgrun.config.suggest import nearest
from pgrun.config.tuned_file import GROUP, SECTIONS, WHERE, parents, sections
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
    sources = [source for source in hydra.runtime.config_sources if source.schema == "file"]
    folders = [Path(str(source.path)) for source in sorted(sources, key=is_package)]  # those of packages count last
    found: dict[str, None] = {}
    for choice, name in sorted(hydra.runtime.choices.items(), key=lambda pair: str(pair[0])):
        group, _, package = str(choice).partition("@")
        if group == GROUP:
            changed = keys_of(folders, str(name))
        elif group.startswith(f"{SECTIONS}/"):
            changed = [f"{package}.{key}" for key in keys_of(folders, group.removeprefix(f"{SECTIONS}/"), str(name))]
        elif group.startswith(f"{GROUP}/") and package:  # of a run from before a pair's tuning was one file
            pair = str(hydra.runtime.choices.get(GROUP))
            section = f"{package.replace('.', '/')}={str(name).removeprefix(f'{pair}_')}"
            changed = [f"{package}.{key}" for key in keys_of(folders, pair, section)]
        else:
            continue
        for key in changed:
            if key not in given and OmegaConf.select(config, key, default=given) is not given:
                found[key] = None
    return list(found)


def keys_of(folders: list[Path], pair: str, section: str = "") -> list[str]:
    """List the dotted keys that a tuned file sets, with those of files beside it that it takes over.

    Args:
        folders: where configs lie; the first that has the file counts.
        pair: the file's name.
        section: one of its sections, for the keys of this alone; empty: for those that stand in no section.
    """
    path = next((f / GROUP / f"{pair}.yaml" for f in folders if (f / GROUP / f"{pair}.yaml").exists()), None)
    if path is None:
        return []
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    if section:
        return leaves(sections(content, str(path)).get(section, {}))
    inherited = [key for parent in parents(content) for key in keys_of(folders, parent)]
    own = {key: value for key, value in content.items() if key not in ("defaults", WHERE)}
    return list(dict.fromkeys([*inherited, *leaves(own)]))


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
        if override.key_or_group == GROUP and not override.is_delete():
            asked += override.sweep_string_iterator() if override.is_sweep_override() else [str(override.value())]
    if not asked:
        return
    names = loader.get_group_options(GROUP)
    for name in asked:
        if name not in ("none", *names):
            close = ", ".join(nearest(name, names, 3))
            raise UserError(
                f"tuned={name} is not known: tuned=none drops what was tuned, tuned=ALGO_ENV takes it from another "
                f"pair ({close}, …)"
            )
