"""An index of every key of the shipped configs: its declarations, and what uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from pgrun.config.paths import config_dir
from pgrun.config.root import EXTRAS, GIVEN
from pgrun.config.signatures import Setting, signature
from pgrun.config.types import core
from pgrun.config.walk import ROOT, is_section

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of the C library, where there is one


@dataclass
class Entry:
    """A key of the configs.

    Args:
        key: its dotted name.
        settings: its declarations: constructors of several algorithms may take it.
        users: for each of these, the group members whose part takes it, as `algo=ppo`.
    """

    key: str
    settings: list[Setting] = field(default_factory=list)
    users: list[list[str]] = field(default_factory=list)

    def add(self, setting: Setting, user: str) -> None:
        """Note that a group's member has the key, declared so."""
        alike = [i for i, s in enumerate(self.settings) if (s.owner, s.meaning) == (setting.owner, setting.meaning)]
        if not alike:
            self.settings.append(setting)
            self.users.append([])
        users = self.users[alike[0] if alike else -1]
        if user and user not in users:
            users.append(user)


def index() -> dict[str, Entry]:
    """Every key of every shipped config that has a declaration, by name."""
    found: dict[str, Entry] = {}
    for key, setting in root_keys():
        found.setdefault(key, Entry(key)).add(setting, "")
    for path in sorted(config_dir().rglob("*.yaml")):
        group = path.parent.relative_to(config_dir()).as_posix()
        if group == "." or group.startswith(("tuned", "sweep")):
            continue
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=LOADER)
        at_root = "# @package _global_" in text.splitlines()[:1]
        base = "" if at_root else group.replace("/", ".")
        for key, setting in keys_of_parts(base, content):
            found.setdefault(key, Entry(key)).add(setting, f"{group}={path.stem}")
    return dict(sorted(found.items()))


def root_keys() -> Iterator[tuple[str, Setting]]:
    """The keys that every run has."""
    root = signature(ROOT)
    assert root is not None
    for name, setting in root.settings.items():
        inner = core(setting.type)
        yield name, setting
        if is_section(inner):
            section = signature(inner.target)
            assert section is not None
            for part, of_part in section.settings.items():
                yield f"{name}.{part}", of_part


def keys_of_parts(path: str, node: Mapping[str, Any] | None) -> Iterator[tuple[str, Setting]]:
    """The keys of each node with a `_target_` in a config file."""
    if not node:
        return
    taken = signature(str(node.get("_target_")))
    if taken is not None:
        extra = signature(EXTRAS[path]) if path in EXTRAS else None
        for name, setting in {**taken.settings, **(extra.settings if extra else {})}.items():
            if name not in GIVEN.get(path, ()):
                yield f"{path}.{name}", setting
    for key, value in node.items():
        if isinstance(value, dict):
            yield from keys_of_parts(f"{path}.{key}" if path else str(key), value)
