"""The command `pgrun explain [KEY]`: a setting's meaning, type, range and default, and what uses it."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pgrun.api.composing import told
from pgrun.api.hydra_start import composed as composed_config
from pgrun.config.index import Entry, index, parts_in
from pgrun.config.signatures import Setting
from pgrun.config.suggest import nearest
from pgrun.config.types import core, is_plain, said, words
from pgrun.config.unknown_keys import task_part
from pgrun.config.walk import every_key, is_section
from pgrun.errors import UserError
from pgrun.shell.arguments import Parser
from pgrun.sweep.resolvers import register_resolvers
from pgrun.trust.code import top_names
from pgrun.trust.finder import allow


def main(argv: Sequence[str]) -> int:
    """Run `pgrun explain [KEY] [GROUP=NAME ...]`; return the exit code."""
    parser = Parser(prog="pgrun explain", description="What a key means, what it may be, who uses it.")
    parser.add_argument(
        "words", nargs="*", metavar="KEY", help="a key, or a word to look for; and algo=NAME, env=NAME, …"
    )
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own configs, explained too")
    args = parser.parse_intermixed_args(argv)
    if args.config_dir and not args.config_dir.is_dir():
        raise UserError(f"--config-dir {args.config_dir} is no folder")
    return explain(args.words, args.config_dir.absolute() if args.config_dir else None)


def explain(arguments: Sequence[str], folder: Path | None = None) -> int:
    """Run `pgrun explain [KEY] [GROUP=NAME ...]`: print a key's page, or the list of keys that match a word.

    Args:
        arguments: the words after `pgrun explain`.
        folder: of the user's own configs.

    Returns:
        The exit code.

    Raises:
        UserError: a word is in no key and no meaning.
    """
    chosen = [word for word in arguments if "=" in word]
    asked = [word for word in arguments if "=" not in word]
    for _, _, content in parts_in(folder) if folder else ():
        allow(top_names(content))  # whose docstrings are read
    entries = index(folder)
    values = {key: value for key, _, value in every_key(composed(chosen, folder))}
    if not asked:
        print_list(list(entries.values()))
        print(f"\n{len(entries)} keys; pgrun explain KEY says more of one, pgrun explain WORD finds")
        return 0
    for i, word in enumerate(asked):
        if i:
            print()
        explain_word(word, entries, values, chosen)
    return 0


def explain_word(word: str, entries: dict[str, Entry], values: dict[str, Any], choices: Sequence[str]) -> None:
    """Print the page of the key that a word names, or the list of keys that match the word."""
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


def print_page(entry: Entry, values: dict[str, Any], choices: Sequence[str]) -> None:
    """Print all that is known of a key; if a member was chosen that has it, what it is there alone."""
    print(entry.key)
    declared = list(zip(entry.settings, entry.users, strict=True))
    for setting, users in [each for each in declared if set(each[1]) & set(choices)] or declared:
        print(textwrap.fill(meaning(setting), 100, initial_indent="  ", subsequent_indent="    "))
        print(f"    {words(setting.type) if is_plain(core(setting.type)) else kind(setting)}")
        if users:
            print(textwrap.fill(f"used by {by_group(users)}", 100, initial_indent="    ", subsequent_indent="      "))
        print(f"    declared in {setting.owner}")
    if entry.key in values:
        value = values[entry.key]
        shown = f"{entry.key}.…" if isinstance(value, DictConfig) else said(value)
        print(f"  with {' '.join(choices) or 'algo=ppo env=cartpole'}: {shown}")


def meaning(setting: Setting) -> str:
    """Return a setting's meaning in the words of a config file (null for None)."""
    return re.sub(r"\bNone\b", "null", setting.meaning).removesuffix(".")


def by_group(users: Sequence[str]) -> str:
    """Format `algo=a2c, algo=ppo, collector=episodes` as `algo=a2c, ppo; collector=episodes`."""
    groups: dict[str, list[str]] = {}
    for user in users:
        group, _, name = user.partition("=")
        groups.setdefault(group, []).append(name)
    return "; ".join(f"{group}={', '.join(names)}" for group, names in groups.items())


def kind(setting: Setting) -> str:
    """Describe a key that holds no plain value."""
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
    """Compose the config of some group choices.

    Args:
        choices: overrides, such as algo=ppo.
        folder: of the user's own configs.

    Raises:
        UserError: a choice can't be composed.
    """
    argv = [*([] if folder is None else ["--config-dir", str(folder)]), *choices]
    register_resolvers()
    try:
        with composed_config(argv) as config:
            return task_part(config)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise told(error, argv) from error
