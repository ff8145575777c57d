"""The user's own config files: found before the shipped ones, and told by file and line where they are wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from pgrun.config.command_line import flag
from pgrun.config.packages import packages
from pgrun.config.paths import config_dir
from pgrun.config.suggest import nearest
from pgrun.config.tuned_file import GROUP, WHERE, sections
from pgrun.errors import UserError

SHIPPED = "shipped_config"  # the shipped root, by a name that no file of the user's takes
SETTINGS = "shipped_hydra"  # its settings of Hydra alone, for a root that has none of its defaults
HYDRAS = ({"override hydra/callbacks": "pgrun"}, {"override hydra/job_logging": "pgrun"})  # the shipped root's
OWN = "own_config"  # the user's root, where it builds on the shipped one of the same name


def root_name(folder: Path | None, argv: Sequence[str]) -> str:
    """The config to begin with: the shipped one, or the user's, which may build on the shipped one of its name.

    Raises:
        UserError: there is no such file, or it can't be read.
    """
    store = ConfigStore.instance()
    shipped = OmegaConf.load(config_dir() / "config.yaml")
    store.store(name=SHIPPED, node=shipped)
    name = (flag(argv, "--config-name", "-cn") or "config").removesuffix(".yaml")
    path = folder / f"{name}.yaml" if folder else None
    if path is None or not path.is_file():
        if name != "config":
            where = f"in {folder}" if folder else "without --config-dir DIR, a folder of yours"
            raise UserError(f"--config-name {name}: there is no {name}.yaml {where}")
        return name
    own = load(path)
    defaults = own.get("defaults")
    if defaults is None:  # a whole config, as a run keeps it
        settings = {"defaults": [*HYDRAS, "_self_"], "hydra": shipped.hydra}
        store.store(name=SETTINGS, node=OmegaConf.create(settings))
        store.store(
            name=OWN, node=DictConfig({"defaults": [SETTINGS, "_self_"], **own, "hydra": choices_of(path, own)})
        )
        return OWN
    elif name == "config" and "config" in defaults:
        own.defaults = [SHIPPED if entry == "config" else entry for entry in defaults]
    else:
        return name
    store.store(name=OWN, node=own)
    return OWN


def choices_of(path: Path, config: DictConfig) -> dict[str, Any]:
    """The names of a whole config's algorithm and environment, for its directory's name."""
    beside = path.with_name("hydra.yaml")
    kept = OmegaConf.select(OmegaConf.load(beside), "hydra.runtime.choices") if beside.is_file() else None
    algo = str(OmegaConf.select(config, "algo._target_") or "algo").rpartition(".")[2].lower()
    env = str(OmegaConf.select(config, "env.id") or OmegaConf.select(config, "env._target_") or "env")
    known = OmegaConf.to_container(kept, resolve=False) if isinstance(kept, DictConfig) else {}
    named = {"algo": algo, "env": env, **(known if isinstance(known, dict) else {})}
    plain = {key: re.sub(r"[^\w.+-]+", "-", str(named[key])).lstrip(".") for key in ("algo", "env")}  # a folder's name
    return {"runtime": {"choices": plain}}


def load(path: Path) -> DictConfig:
    """Read a config file of the user's.

    Raises:
        UserError: it is no YAML, or no mapping.
    """
    try:
        content = OmegaConf.load(path)
    except yaml.YAMLError as error:
        raise UserError(yaml_line(error)) from error
    if not isinstance(content, DictConfig):
        raise UserError(f"{path} holds no mapping, as key: value")
    return content


def yaml_line(error: yaml.YAMLError) -> str:
    """Say where a file is no YAML, and why."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    if "\\t" in problem:
        problem = "a tab, where YAML takes spaces alone"
    return f"{shown(Path(mark.name))}, line {mark.line + 1}: {problem}" if mark else problem


def shown(path: Path) -> str:
    """A path as seen from here, where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def check_files(folder: Path) -> None:
    """Refuse files of the user's that can't be composed.

    These are files that name themselves in their defaults, which Hydra would read for ever, and tuned files with a
    section that can't hold.

    Raises:
        UserError: the first such file.
    """
    for path in sorted(folder.rglob("*.yaml")):
        group, name = path.parent.relative_to(folder).as_posix(), path.stem
        if (group, name) == (".", "config"):
            continue  # which builds on the shipped one
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, OSError, ValueError):
            continue  # told when it is used
        defaults = content.get("defaults") if isinstance(content, dict) else None
        itself = {name, f"/{name}"} if group == "." else {name, f"/{group}/{name}"}
        for entry in defaults if isinstance(defaults, list) else ():
            if (grouped(entry) if isinstance(entry, dict) else entry) in itself:
                raise UserError(f"{shown(path)} names itself in its defaults: take {name} out of them")
        if group == GROUP and isinstance(content, dict):
            check_sections(folder, path, content)
        elif group.startswith(f"{GROUP}/"):
            kind = path.parent.name
            kind = f"algo/{kind}" if (config_dir() / "algo" / kind).is_dir() else kind
            raise UserError(
                f"{shown(path)}: what is tuned for a pair stands in one file, {GROUP}/ALGO_ENV.yaml; there what holds "
                f"with one {kind} alone stands below {WHERE}:, as {kind}=NAME: {{…}}"
            )


def check_sections(folder: Path, path: Path, content: Mapping[Any, Any]) -> None:
    """Refuse a tuned file's section whose name is no member of any group.

    Args:
        folder: the user's.
        path: the file.
        content: what it holds.

    Raises:
        UserError: the first such section.
    """
    places = (*places_of_configs(), folder)
    for name in sections(content, shown(path)):
        group, _, member = name.partition("=")
        members = {file.stem for place in places for file in (place / group).glob("*.yaml")}
        if member in members:
            continue
        if members:
            why = f"{group} is one of {', '.join(nearest(member, members, len(members)))}"
        else:
            groups = {file.parent.relative_to(place).as_posix() for place in places for file in place.rglob("*.yaml")}
            why = f"there is no group {group}; did you mean {nearest(group, groups, 1)[0]}?"
        raise UserError(f"{shown(path)}{line_of(path, name)}: {name} holds with nothing: {why}")


def places_of_configs() -> list[Path]:
    """List the folders of configs that every command line has: pgrun's and those of installed packages."""
    return [config_dir(), *(package.folder for package in packages())]


def line_of(path: Path, key: str) -> str:
    """Find where a file has a key; -> as `, line 3`; empty where it hasn't."""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if re.search(rf"(?:^|[{{,])\s*{re.escape(key)}\s*:", line):
            return f", line {number}"
    return ""


def check_choices(overrides: Sequence[str], folder: Path | None) -> None:
    """Refuse a group that is given a number, null or a list of numbers instead of a member's name.

    Raises:
        UserError: the first such override.
    """
    for text in overrides:
        key, equals, value = text.lstrip("+~").partition("=")
        places = [place / key for place in (*places_of_configs(), folder) if place is not None]
        if not equals or "." in key or not key or not any(place.is_dir() for place in places):
            continue
        if value and re.fullmatch(r"null|true|false|[-+.]?\d[\d.eE+-]*|\[\s*[-+\d.].*\]|\{.*\}", value.strip()):
            members = sorted({path.stem for place in places for path in place.glob("*.yaml")})
            if value in members:
                continue
            raise UserError(
                f"{key}={value} should be one of {', '.join(members)}; what that has is set key by key, as {key}.KEY=…"
            )


def grouped(entry: dict[str, Any]) -> str:
    """An entry of a defaults list that chooses a group's member, as one absolute name."""
    key, value = next(iter(entry.items()), ("", ""))
    words = str(key).split("@")[0].split()
    return f"{words[-1]}/{value}" if words and words[-1].startswith("/") and "override" not in words else ""
