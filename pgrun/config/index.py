"""An index of every key of the shipped configs: its declarations, and what uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pgrun.config.packages import docstring, packages
from pgrun.config.paths import config_dir
from pgrun.config.root import EXTRAS, GIVEN
from pgrun.config.signatures import Setting, meanings, signature
from pgrun.config.types import core
from pgrun.config.walk import HYDRAS, ROOT, is_section

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


def index(folder: Path | None = None) -> dict[str, Entry]:
    """List every key of every config that has a declaration, by name.

    Args:
        folder: of the user's own configs, beside the shipped ones and those of installed packages.
    """
    found: dict[str, Entry] = {}
    for key, setting in root_keys():
        found.setdefault(key, Entry(key)).add(setting, "")
    for user, base, content in parts_in(config_dir()):
        for key, setting in keys_of_parts(base, content):
            found.setdefault(key, Entry(key)).add(setting, user)
    for place in (*(package.folder for package in packages()), *([] if folder is None else [folder])):
        for user, base, content in parts_in(place):
            for key, setting in (*keys_of_parts(base, content), *keys_of_packages(base, content)):
                known = found.get(key)
                if known and not setting.meaning:  # it inherits the key, most likely
                    setting = known.settings[0]
                found.setdefault(key, Entry(key)).add(setting, user)
    return dict(sorted(found.items()))


def parts_in(folder: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield the configs of parts in a folder of configs: group=member, the node that it fills, and what it holds."""
    for path in sorted(folder.rglob("*.yaml")):
        group = path.parent.relative_to(folder).as_posix()
        if group == "." or group.startswith(("tuned", "sweep")):
            continue
        text = path.read_text(encoding="utf-8")
        at_root = "# @package _global_" in text.splitlines()[:1]
        try:
            content = yaml.load(text, Loader=LOADER)
        except yaml.YAMLError:  # of a package, and told when it is used
            continue
        yield f"{group}={path.stem}", "" if at_root else group.replace("/", "."), content


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
    if not isinstance(node, dict):
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


def keys_of_packages(path: str, node: Mapping[str, Any] | None) -> Iterator[tuple[str, Setting]]:
    """The keys that a package's config gives to a class of its own, with the meanings in this class's docstring."""
    if not isinstance(node, dict):
        return
    target = str(node.get("_target_") or "")
    if target and not target.startswith("pgrun."):
        said = meanings(docstring(target))
        for name in node:
            if name not in HYDRAS and name != "defaults":
                yield f"{path}.{name}", Setting(str(name), Any, said.get(str(name), ""), False, None, target)
    for key, value in node.items():
        yield from keys_of_packages(f"{path}.{key}" if path else str(key), value)


def givers(key: str, *folders: Path) -> Iterator[tuple[str, str]]:
    """Yield the members of groups whose files give a key a value, themselves or through files that they build on.

    Args:
        key: the dotted key.
        folders: of configs, beside pgrun's and those of installed packages.
    """
    for folder in (config_dir(), *(package.folder for package in packages()), *folders):
        files = {user: (base, content) for user, base, content in parts_in(folder)}
        for user in files:
            group, _, member = user.partition("=")
            waiting, seen = [user], set()
            while waiting:
                base, content = files.get(file := waiting.pop(), ("", None))
                if file in seen or not isinstance(content, dict):
                    continue
                seen.add(file)
                if has(
                    content, key if not base else key.removeprefix(f"{base}.") if key.startswith(f"{base}.") else ""
                ):
                    yield group, member
                    break
                waiting += [f"{group}={name}" for name in content.get("defaults") or () if isinstance(name, str)]


def has(content: Mapping[str, Any], key: str) -> bool:
    """Return whether nested plain values have a dotted key."""
    node: Any = content
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return True
