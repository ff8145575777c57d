"""Find the user's file, and the line in it, that a wrong key of a composed config came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pgrun.config.files import line_of, shown


def where(folder: Path | None, key: str, choices: Mapping[str, str]) -> str:
    """Find where a file of the user's that was composed has a key.

    Args:
        folder: the user's folder.
        key: the dotted key.
        choices: the members that were chosen of each group.

    Returns:
        The place, as ` (conf/experiment/x.yaml, line 3)`; empty where no such file has the key.
    """
    files = used_files(folder, choices) if folder else []
    for path in files:
        if number := line_in(path, group_of(path, folder), key):
            return f" ({shown(path)}, line {number})"
    for path in files:  # in a section of a tuned file, say
        if line := line_of(path, key.rpartition(".")[2]):
            return f" ({shown(path)}{line})"
    return ""


def whose(folder: Path | None, node: str, choices: Mapping[str, str]) -> str:
    """Find the user's file that says what a node makes; -> as ` (conf/algo/mine.yaml)`; empty where none does.

    Args:
        folder: the user's folder.
        node: its dotted key.
        choices: the members that were chosen of each group.
    """
    files = used_files(folder, choices) if folder else []
    group = node.replace(".", "/")
    chosen = [path for path in files if group_of(path, folder) == group]
    making = [path for path in files if line_in(path, group_of(path, folder), f"{node}._target_")]
    return f" ({shown(path)})" if (path := next(iter((*making, *chosen)), None)) else ""


def used_files(folder: Path, choices: Mapping[str, str]) -> list[Path]:
    """List the user's files that a config was composed of: the members that were chosen first, then the rest."""
    found: dict[Path, None] = {}
    waiting = [
        folder / group.partition("@")[0] / f"{name}.yaml"
        for group, members in choices.items()
        for name in re.findall(r"[^\[\],\s]+", members)
    ]
    waiting += sorted(folder.glob("*.yaml"))
    while waiting:
        path = waiting.pop(0)
        if path in found or not path.is_file():
            continue
        found[path] = None
        content = composed_yaml(path)
        defaults = content.get("defaults") if isinstance(content, dict) else None
        for entry in defaults if isinstance(defaults, list) else ():
            if isinstance(entry, str):  # a file that it builds on
                base = folder / entry[1:] if entry.startswith("/") else path.parent / entry
                waiting.append(base.with_name(f"{base.name}.yaml"))
    return list(found)


def composed_yaml(path: Path) -> Any:
    """Read a YAML file; None if it can't be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, ValueError):
        return None


def group_of(path: Path, folder: Path | None) -> str:
    """Name the group that a file in a folder of configs is a member of; "." for a root."""
    assert folder is not None
    return path.parent.relative_to(folder).as_posix()


def line_in(path: Path, group: str, key: str) -> int:
    """Find the line in which a file has exactly this key; 0 where it hasn't.

    Args:
        path: the file.
        group: the group that it is a member of, whose node it fills unless it says otherwise.
        key: the dotted key in the composed config.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, ValueError):
        return 0
    inside = f"{group.replace('/', '.')}."
    for names in (key, key.removeprefix(inside)) if key.startswith(inside) else (key,):
        node, line = root, 0
        for name in names.split("."):
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            named = next(((k, v) for k, v in pairs if k.value == name), None)
            if named is None:
                line = 0
                break
            node, line = named[1], named[0].start_mark.line + 1
        if line:
            return line
    return 0
