"""Translate errors of Hydra and OmegaConf into one line, with the nearest right name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException

from pgrun.config.command_line import user_folder
from pgrun.config.files import shown
from pgrun.config.groups import members
from pgrun.config.index import index
from pgrun.config.packages import faults
from pgrun.config.signatures import Signature
from pgrun.config.suggest import nearest
from pgrun.config.types import core
from pgrun.config.unknown_keys import unknown_key
from pgrun.config.values import kind_of_node
from pgrun.config.walk import known_of
from pgrun.errors import UserError


def instantiation(error: BaseException) -> str:
    """Describe in one line why Hydra could not instantiate a `_target_`."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    where = next((line for line in lines if line.startswith("full_key")), "")
    key = where.removeprefix("full_key:").strip()
    if isinstance(cause, UserError):
        return str(cause)
    return f"{key + ': ' if key else ''}{lines[0]} ({type(cause).__name__}: {cause})"


def translate(error: BaseException, argv: Sequence[str], taken: Callable[[str], Signature | None] = known_of) -> str:
    """Describe any other error of Hydra or OmegaConf in one line.

    Args:
        error: the error.
        argv: the command line.
        taken: returns the arguments of a class or function by its name, if they can be known.
    """
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"can't read {error.override!r}: write key=value, quoted where the shell would take it apart"
    if match := re.search(r"Could not find '([^']+)'\n\nAvailable options in '([^']+)':\n((?:\t.*\n?)+)", text):
        there = [line.strip() for line in match[3].splitlines() if line.strip()]
        return unknown_member(match[2], match[1].removeprefix(f"{match[2]}/"), there, argv)
    if (match := re.search(r"In '([^']*)/([^'/]*)': Could not find '\1/([^']+)/([^'/]+)'", text)) and (
        wrong := relative(match[1], match[2], f"{match[3]}/{match[4]}", argv)
    ):
        return wrong
    if match := re.search(r"In '[^']*': Could not find '([^']+)/([^'/]+)'", text):
        there = [line.strip() for line in text.splitlines() if line.startswith("\t")]
        return unknown_member(match[1], match[2], there, argv)
    if match := re.search(r"Could not load '([^']+)/([^'/]+)'", text):  # one of a list, as +sweep=[ppo,joblib]
        return unknown_member(match[1], match[2], list(members(match[1])), argv)
    if match := re.search(r"Could not (?:override|delete|append[^']*) '?([^'\n]+)'?", text):
        return unknown_key(match[1].rstrip("."), argv, taken)
    if match := re.search(r"Error merging override \+{0,2}([\w.]+)=(.*)", text):
        return f"{match[1]}={match[2]} {other_kind(match[1])}"
    if isinstance(error, (MissingConfigException, ConfigCompositionException)):
        return " ".join(line.strip() for line in text.splitlines() if line.strip())
    return text.splitlines()[0] if text else type(error).__name__


def relative(group: str, name: str, entry: str, argv: Sequence[str]) -> str:
    """Describe an entry of a file's defaults that names another group as if it were within its own.

    Args:
        group: the file's.
        name: the file's.
        entry: the member, as memory/latest.
        argv: the command line.

    Returns:
        What to write; empty where there is no such other group, or where it is within the file's.
    """
    own = [folder for folder in (user_folder(argv),) if folder is not None]
    other, _, member = entry.rpartition("/")
    if not members(other, *own) or members(f"{group}/{other}", *own):
        return ""
    path = Path(*own, group, f"{name}.yaml")
    return f"{other} is no group within {group}: write /{other}: {member} in {shown(path)}"


def other_kind(key: str) -> str:
    """Describe the kind of value that a key needs, when it was given a mapping for a list, for example."""
    entry = index().get(key)
    if entry is None:
        return "is of another kind than what stands there"
    return f"should be {kind_of_node(core(entry.settings[0].type))}"


def unknown_member(group: str, name: str, there: list[str], argv: Sequence[str]) -> str:
    """Describe a group's unknown member, such as `algo=pp0`, and list the known ones, nearest first.

    For an environment without a file, say how to have it; and so for a file of the user's that lies in a folder here.
    """
    if user_folder(argv) is None and (here := sorted(Path.cwd().glob(f"*/{group}/{name}.yaml"))):
        folder = shown(here[0].parents[group.count("/") + 1])
        return f"{group}={name} is not known, but {shown(here[0])} is here: add --config-dir {folder}"
    if group in ("env", "env/ALE") and (advice := other_env("/".join([*group.split("/")[1:], name]))):
        return advice
    broken = "".join(f"; {fault}" for fault in faults() if " is broken: " in fault)  # which might have had it
    near = f"did you mean {nearest(name, there, 1)[0]}? " if difflib.get_close_matches(name, there, 1) else ""
    return f"{group}={name} is not known; {near}{group} is one of {', '.join(sorted(there))}{broken}"


def other_env(id: str) -> str:
    """Say how to have a registered environment that has no config file; empty if there is none of a similar name."""
    if id.startswith("ALE/"):
        return f"env={id} is no config: Atari's games are had by env=atari env.id={id}"
    import gymnasium

    names = [str(name) for name in gymnasium.registry if "/" not in str(name)]
    known = next((name for name in names if name.lower() == id.lower()), None)
    base = re.sub(r"-v\d+$", "", id.lower())
    if known is None and (versions := [name for name in names if re.sub(r"-v\d+$", "", name.lower()) == base]):
        known = max(versions, key=lambda name: int(name.rpartition("-v")[2]))
    return f"env={id} is no config: Gymnasium's environments are had by env=gym env.id={known}" if known else ""
