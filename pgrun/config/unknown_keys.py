"""Describe a key that a composed config has not, and say where it belongs or how it is spelt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from pgrun.compat.hydra import composed
from pgrun.config.command_line import user_folder
from pgrun.config.files import root_name
from pgrun.config.groups import ADDED
from pgrun.config.index import givers
from pgrun.config.paths import config_dir
from pgrun.config.places import where, whose
from pgrun.config.root import EXTRAS, GIVEN
from pgrun.config.signatures import Signature, signature
from pgrun.config.suggest import likeness, nearest
from pgrun.config.values import AT_ROOT, WrongSetting, check_packages, short, used_by_others
from pgrun.config.walk import HYDRAS, ROOT, every_key, known_of, makes

GROUP_KEYS = ("algo", "env", "network", "optimizer", "memory", "collector", "algo/advantage", "algo/baseline")
ALIKE = 0.6  # the least likeness of a name that is suggested in a key's own node


def unknown_key(key: str, argv: Sequence[str], taken: Callable[[str], Signature | None] = known_of) -> str:
    """Describe an unknown key, such as `algo.gama`, and suggest the nearest one.

    Args:
        key: the dotted key, or the group.
        argv: the command line.
        taken: returns the arguments of a class or function by its name, if they can be known.
    """
    if (match := re.fullmatch(r"([\w/]+)@(\w+)\.(.+)", key)) and match[1] == match[3].replace(".", "/"):
        return f"a file of the group {match[2]} overrides {match[1]}, which it can from the root alone: {AT_ROOT}"
    config = composed_without(key, argv)
    if config is None:
        return described(key, [], GROUP_KEYS)
    choices = {str(group): str(member) for group, member in config.hydra.runtime.choices.items()}
    groups = [group.partition("@")[0] for group in choices if not group.startswith(("hydra", "tuned"))]
    task, folder = task_part(config), user_folder(argv)
    root = signature(ROOT)
    assert root is not None
    try:
        check_packages(task, choices, root, used_by_others(task))
    except WrongSetting as error:  # all keys of a file are elsewhere than they should be
        return f"{error}{where(folder, error.key, choices)}"
    if key not in groups and (whole := left_out(key, task, argv, taken, whose(folder, parent(key), choices))):
        return whole
    if key not in groups and (others := belongs_to(key, choices, folder)):
        return others
    every = [name for name, _, _ in every_key(task) if name.rpartition(".")[2] not in HYDRAS]
    nodes = {parent(name) for name in every}
    known = [name for name in every if name not in nodes]
    return described(
        key, [*known, *(name for name in arguments(parent(key), task, taken) if name not in known)], groups
    )


def task_part(config: DictConfig) -> DictConfig:
    """Copy a composed config without its `hydra` node."""
    task = config.copy()
    OmegaConf.set_struct(task, False)
    task.pop("hydra")
    return task


def parent(key: str) -> str:
    """Return the key of the node that a key is in; empty for the root."""
    return key.rpartition(".")[0]


def described(key: str, known: Sequence[str], groups: Sequence[str]) -> str:
    """Describe an unknown key.

    Args:
        key: the key.
        known: the keys that there are.
        groups: the groups that can be chosen.
    """
    if key in ADDED:
        return f"no run has a {key} by itself, so it is added: write +{key}=NAME"
    if key in groups:
        return f"{key} chooses a group's member: write {key}=NAME"
    if (below := [name for name in known if name.startswith(f"{key}.")]) and "." not in key:
        return f"{key} is no group here; its keys are {', '.join(sorted(below)[:6])}, …"
    beside = [name for name in known if parent(name) == parent(key)] if "." in key else []
    close = [near for near in nearest(key, beside, 1) if likeness(last(key), last(near)) > ALIKE]
    close = close or nearest(key, [*known, *groups], 1)
    if "." not in key and (
        group := nearest(key, [name for name in groups if name[0] == key[0].lower() and "/" not in name], 1)
    ):
        close = close if likeness(key, close[0]) > 0.75 else group  # a word alone is a group more often than a key
    hint = f"did you mean {close[0]}?" if close else "pgrun explain lists the keys there are"
    return f"there is no key {key}; {hint}"


def last(key: str) -> str:
    """Return the last name of a dotted key."""
    return key.rpartition(".")[2]


def arguments(node: str, task: DictConfig, taken: Callable[[str], Signature | None]) -> list[str]:
    """List the keys that may be given to a node: the arguments of what it makes; none if they can't be known."""
    found: Any = OmegaConf.select(task, node) if node else None
    if not isinstance(found, DictConfig) or not makes(found) or OmegaConf.is_missing(found, "_target_"):
        return []
    known, extra = taken(str(found._target_)), signature(EXTRAS[node]) if node in EXTRAS else None
    names = [*(known.settings if known else ()), *(extra.settings if extra else ())]
    return [f"{node}.{name}" for name in names if name not in GIVEN.get(node, ())]


def left_out(
    key: str, task: DictConfig, argv: Sequence[str], taken: Callable[[str], Signature | None], place: str
) -> str:
    """Describe a key that is an argument of its node's class, but in no config file; empty if it isn't.

    Args:
        key: the key.
        task: the composed config without it.
        argv: the command line.
        taken: as `unknown_key` has it.
        place: the user's file that names the class, in brackets.
    """
    if key not in arguments(parent(key), task, taken):
        return ""
    typed = next((word for word in argv if word.startswith(f"{key}=")), f"{key}=…")
    file, class_ = place.strip(" ()") or "its YAML", short(str(OmegaConf.select(task, f"{parent(key)}._target_")))
    return f"{class_} takes {last(key)}, but {file} doesn't give it: add it there, or type +{typed}"


def belongs_to(key: str, choices: dict[str, str], folder: Path | None) -> str:
    """Describe a key that other members of a group have; empty if there are none.

    Args:
        key: the key.
        choices: the chosen member of each group.
        folder: the user's own configs, if any.
    """
    members: dict[str, list[str]] = {}
    for group, member in givers(key, *([] if folder is None else [folder])):
        members.setdefault(group, []).append(member)
    chosen = {group.partition("@")[0]: member for group, member in choices.items()}
    of_key = [group for group in members if group in chosen]
    if not of_key:
        return ""
    group = max(of_key, key=lambda group: (f"{key}.".startswith(f"{group.replace('/', '.')}."), len(group)))
    names = ", ".join(sorted(set(members[group])))
    return f"{key} is not among the keys of {group}={chosen[group]}; it belongs to {group}={names}"


def composed_without(key: str, argv: Sequence[str]) -> DictConfig | None:
    """Compose a command line's choices of groups, but for the wrong key; None if there is no way.

    Args:
        key: the wrong key.
        argv: the command line.
    """
    chosen = []
    for word in argv:
        name, equals, value = word.partition("=")
        if equals and "." not in name and not name.startswith("-") and name.lstrip("+~") != key:
            chosen.append(word if value[:1] in "[{'\"" else f"{name}={value.partition(',')[0]}")  # a sweep's first
    folder = user_folder(argv)
    folders = [config_dir()] if folder is None else [folder, config_dir()]
    GlobalHydra.instance().clear()
    for overrides in (chosen, [word for word in chosen if "/" not in word.partition("=")[0]], []):
        try:
            with composed(folders, root_name(folder, argv), overrides) as config:
                return config
        except Exception:  # something else is wrong, too
            continue
    return None
