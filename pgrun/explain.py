"""`pgrun explain [KEY]`: a setting's meaning, type, range and default, and what uses it."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from pgrun.config.root import EXTRAS, GIVEN
from pgrun.config.signatures import Setting, signature
from pgrun.config.types import core, is_plain, said, words
from pgrun.config.walk import ROOT, every_key, is_section
from pgrun.errors import UserError
from pgrun.paths import config_dir
from pgrun.suggest import nearest

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


def explain(arguments: Sequence[str]) -> int:
    """`pgrun explain [KEY] [GROUP=NAME ...]`: print a key's page, or the list of those that a word is found in.

    Raises:
        UserError: a word that is in no key and no meaning.
    """
    chosen = [word for word in arguments if "=" in word]
    asked = [word for word in arguments if "=" not in word]
    entries = index()
    values = {key: value for key, _, value in every_key(composed(chosen))}
    if not asked:
        print_list(list(entries.values()))
        print(f"\n{len(entries)} keys; pgrun explain KEY says more of one, pgrun explain WORD finds")
        return 0
    for i, word in enumerate(asked):
        if i:
            print()
        explain_word(word, entries, values, " ".join(chosen) or "algo=ppo env=cartpole")
    return 0


def explain_word(word: str, entries: dict[str, Entry], values: dict[str, Any], choices: str) -> None:
    """Print the page of the key that a word names, or the list of those that it is found in."""
    by_last_name = [key for key in entries if key.endswith(f".{word}")]
    key = word if word in entries else by_last_name[0] if len(by_last_name) == 1 else ""
    if key:
        print_page(entries[key], values, choices)
        return
    low = word.lower()
    hits = [e for e in entries.values() if low in e.key.lower() or any(low in s.meaning.lower() for s in e.settings)]
    if not hits:
        raise UserError(f"no key and no meaning has {word!r} in it; did you mean {nearest(word, entries, 1)[0]}?")
    print_list(hits)


def print_page(entry: Entry, values: dict[str, Any], choices: str) -> None:
    """Print all that is known of a key."""
    print(entry.key)
    for setting, users in zip(entry.settings, entry.users, strict=True):
        print(textwrap.fill(meaning(setting), 100, initial_indent="  ", subsequent_indent="    "))
        print(f"    {words(setting.type) if is_plain(core(setting.type)) else kind(setting)}")
        if users:
            print(textwrap.fill(f"used by {by_group(users)}", 100, initial_indent="    ", subsequent_indent="      "))
        print(f"    declared in {setting.owner}")
    if entry.key in values:
        value = values[entry.key]
        shown = f"{entry.key}.…" if isinstance(value, DictConfig) else said(value)
        print(f"  with {choices}: {shown}")


def meaning(setting: Setting) -> str:
    """Say what a setting means, in the words of a config file."""
    return re.sub(r"\bNone\b", "null", setting.meaning).removesuffix(".")


def by_group(users: Sequence[str]) -> str:
    """`algo=a2c, algo=ppo, collector=episodes` as `algo=a2c, ppo; collector=episodes`."""
    groups: dict[str, list[str]] = {}
    for user in users:
        group, _, name = user.partition("=")
        groups.setdefault(group, []).append(name)
    return "; ".join(f"{group}={', '.join(names)}" for group, names in groups.items())


def kind(setting: Setting) -> str:
    """Say what a key is that holds no plain value."""
    inner = core(setting.type)
    if is_section(inner):
        return "keys of its own"
    return words(setting.type)


def print_list(entries: list[Entry]) -> None:
    """Print a line for each key, as wide as the terminal."""
    width = shutil.get_terminal_size((100, 24)).columns
    longest = min(max(len(entry.key) for entry in entries), 40)
    for entry in entries:
        said_of_it = "; ".join(dict.fromkeys(meaning(setting) for setting in entry.settings))
        line = f"{entry.key:{longest}}  {said_of_it}"
        print(line if len(line) <= width else f"{line[: width - 1]}…")


def composed(choices: Sequence[str], folder: Path | None = None) -> DictConfig:
    """The config that some group choices compose to."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    from pgrun.resolvers import register_resolvers
    from pgrun.translate import translate

    register_resolvers()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(folder or config_dir()), version_base="1.3"):
        try:
            return hydra.compose("config", overrides=list(choices))
        except HydraException as error:
            raise UserError(translate(error, choices)) from error
