"""The tables of docs/configs.md, from the config files and from the settings beside constructors' arguments.

python scripts/pages.py groups root keys     # writes them into the page
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from pgrun.config.groups import ADDED, members
from pgrun.config.index import Entry, index
from pgrun.config.paths import config_dir
from pgrun.config.root import Root
from pgrun.config.types import core, said, words
from pgrun.config.walk import is_section
from pgrun.shell.commands.explain import by_group, meaning

SHOWN = 4  # values that the shipped files have of a key; where there are more, the column says how many


def groups() -> str:
    """Write a table for each config group: its members, and the first line of comment in each one's file."""
    return "\n\n".join(f"### `{group}`\n\n{group_table(group)}" for group in group_names())


def group_names() -> list[str]:
    """List the groups that a user chooses from; what was tuned for pairs is chosen by these."""
    folders = sorted({path.parent.relative_to(config_dir()).as_posix() for path in config_dir().rglob("*.yaml")})
    shown = [name for name in folders if name != "." and not name.startswith("tuned")]
    return [name for name in shown if name not in ("hydra/callbacks", "hydra/job_logging")]


def group_table(group: str) -> str:
    """Write the table of one group's members."""
    prefix = "+" if group in ADDED else ""
    rows = [(f"`{prefix}{group}={name}`", text(line)) for name, line in members(group).items()]
    return table(("choice", "what it is"), rows)


def root() -> str:
    """Write the table of the keys that every run has."""
    shipped = yaml.safe_load((config_dir() / "config.yaml").read_text(encoding="utf-8"))
    rows = []
    for entry in index().values():
        name = entry.key.partition(".")[0]
        if "." in entry.key and not shipped.get(name):
            continue  # a part's, which a group's member chooses
        if name not in Root.__dataclass_fields__ or is_part(entry):
            continue
        (setting,) = entry.settings
        if is_section(core(setting.type)):
            continue  # a heading of the keys in it
        value = of_path(shipped, entry.key)
        default = setting.default if value is MISSING else value
        rows.append((f"`{entry.key}`", allowed(entry), f"`{compact(default)}`", text(meaning(setting))))
    return table(("key", "may be", "default", "meaning"), rows)


def is_part(entry: Entry) -> bool:
    """Tell whether a key holds a part that a group's member chooses, such as `algo`."""
    return entry.key in ("algo", "env", "network", "optimizer", "parallel", "memory", "collector")


def keys() -> str:
    """Write a table for each part of a run: its keys, what they may be, and what uses them."""
    entries, shipped = index(), shipped_values()
    tables = []
    for part in ("algo", "env", "collector", "memory", "network", "optimizer", "parallel", "hooks"):
        rows = []
        for key, entry in entries.items():
            if key.startswith(f"{part}."):
                meanings = dict.fromkeys(text(meaning(setting)) for setting in entry.settings)
                users = "; ".join(dict.fromkeys(by_group(used) for used in entry.users if used))
                values = list(dict.fromkeys(f"`{compact(value)}`" for value in shipped.get(key, [])))
                seen = ", ".join(values) if len(values) <= SHOWN else f"{len(values)} values"
                rows.append((f"`{key}`", allowed(entry), seen, "; ".join(m for m in meanings if m), text(users)))
        tables.append(f"### Keys of `{part}`\n\n{table(('key', 'may be', 'shipped', 'meaning', 'used by'), rows)}")
    return "\n\n".join(tables)


MISSING = object()


def of_path(node: Any, key: str) -> Any:
    """Find the value of a dotted key in nested dicts; MISSING where there is none."""
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            return MISSING
        node = node[name]
    return node


def shipped_values() -> dict[str, list[Any]]:
    """Find the values that the shipped files give to each key of a part, tuned ones left out."""
    found: dict[str, list[Any]] = {}
    for path in sorted(config_dir().rglob("*.yaml")):
        group = path.parent.relative_to(config_dir()).as_posix()
        if group.startswith((".", "tuned", "sweep", "hydra")):
            continue
        source = path.read_text(encoding="utf-8")
        base = "" if source.startswith("# @package _global_") else group.replace("/", ".")
        for key, value in leaves(yaml.safe_load(source) or {}, base):
            found.setdefault(key, []).append(value)
    return found


def leaves(node: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Walk through nested dicts: each dotted key whose value is no dict."""
    for name, value in node.items():
        key = f"{path}.{name}" if path else str(name)
        if isinstance(value, dict) and value:
            yield from leaves(value, key)
        else:
            yield key, value


def allowed(entry: Entry) -> str:
    """Say what a key may be, in the words of the check before a run."""
    group = entry.key.replace(".", "/")
    if (config_dir() / group).is_dir():
        return f"a member of `{group}`"
    return text("; ".join(dict.fromkeys(words(setting.type) for setting in entry.settings)))


def compact(value: Any) -> str:
    """Write a value as YAML has it on one line."""
    if isinstance(value, list):
        return f"[{', '.join(compact(item) for item in value)}]"
    return said(value)


def text(words_: str) -> str:
    """Make plain words safe in a cell of a Markdown table."""
    plain = words_.replace("|", r"\|").replace("<", "&lt;")
    outside = re.split(r"(`[^`]*`)", plain)
    return "".join(part if part.startswith("`") else re.sub(r"([*_])", r"\\\1", part) for part in outside)


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Write a Markdown table."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
