"""Translate errors of Hydra and OmegaConf into one line, with the nearest right name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import hydra
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from pgrun.config.command_line import user_folder
from pgrun.config.groups import ADDED, members
from pgrun.config.index import index
from pgrun.config.packages import faults
from pgrun.config.paths import config_dir
from pgrun.config.suggest import nearest
from pgrun.config.types import core
from pgrun.config.values import kind_of_node
from pgrun.config.walk import every_key
from pgrun.errors import UserError

GROUP_KEYS = ("algo", "env", "network", "optimizer", "memory", "collector", "algo/advantage", "algo/baseline")


def task_part(config: DictConfig) -> DictConfig:
    """Copy a composed config without its `hydra` node."""
    task = config.copy()
    OmegaConf.set_struct(task, False)
    task.pop("hydra")
    return task


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


def translate(error: BaseException, argv: Sequence[str]) -> str:
    """Describe any other error of Hydra or OmegaConf in one line.

    Args:
        error: the error.
        argv: the command line.
    """
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"can't read {error.override!r}: write key=value, quoted where the shell would take it apart"
    if match := re.search(r"Could not find '([^']+)'\n\nAvailable options in '([^']+)':\n((?:\t.*\n?)+)", text):
        group = match[2]
        return unknown_member(
            group, match[1].removeprefix(f"{group}/"), [line.strip() for line in match[3].splitlines() if line.strip()]
        )
    if match := re.search(r"In '[^']*': Could not find '([^']+)/([^'/]+)'", text):
        there = [line.strip() for line in text.splitlines() if line.startswith("\t")]
        return unknown_member(match[1], match[2], there)
    if match := re.search(r"Could not load '([^']+)/([^'/]+)'", text):  # one of a list, as +sweep=[ppo,joblib]
        return unknown_member(match[1], match[2], list(members(match[1])))
    if match := re.search(r"Could not (?:override|delete|append[^']*) '?([^'\n]+)'?", text):
        return unknown_key(match[1].rstrip("."), argv)
    if match := re.search(r"Error merging override \+{0,2}([\w.]+)=(.*)", text):
        return f"{match[1]}={match[2]} {other_kind(match[1])}"
    if isinstance(error, (MissingConfigException, ConfigCompositionException)):
        return " ".join(line.strip() for line in text.splitlines() if line.strip())
    return text.splitlines()[0] if text else type(error).__name__


def other_kind(key: str) -> str:
    """Describe the kind of value that a key needs, when it was given a mapping for a list, for example."""
    entry = index().get(key)
    if entry is None:
        return "is of another kind than what stands there"
    return f"should be {kind_of_node(core(entry.settings[0].type))}"


def unknown_member(group: str, name: str, there: list[str]) -> str:
    """Describe a group's unknown member, such as `algo=pp0`, and list the known ones, nearest first.

    For an environment without a file, say how to have it.
    """
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


def unknown_key(key: str, argv: Sequence[str]) -> str:
    """Describe an unknown key, such as `algo.gama`, and suggest the nearest one."""
    if match := re.fullmatch(r"([\w/]+)@(\w+)\.\1", key):
        return (
            f"a file of the group {match[2]} overrides {match[1]}, which it can from the root alone: "
            "let it begin with '# @package _global_'"
        )
    known, groups = names_there_are(key, argv)
    if key in ADDED:
        return f"no run has a {key} by itself, so it is added: write +{key}=NAME"
    if key in groups:
        return f"{key} chooses a group's member: write {key}=NAME"
    if (below := [name for name in known if name.startswith(f"{key}.")]) and "." not in key:
        return f"{key} is no group here; its keys are {', '.join(sorted(below)[:6])}, …"
    beside = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]] if "." in key else []
    close = nearest(key, beside or [*known, *groups], 1)
    if "." not in key and (
        group := nearest(key, [name for name in groups if name[0] == key[0].lower() and "/" not in name], 1)
    ):
        close = close if likeness(key, close[0]) > 0.75 else group  # a word alone is a group more often than a key
    hint = f"did you mean {close[0]}?" if close else "pgrun explain lists the keys there are"
    return f"there is no key {key}; {hint}"


def likeness(word: str, name: str) -> float:
    """Measure how similar two words are, from 0 to 1."""
    return difflib.SequenceMatcher(None, word.lower(), name.lower()).ratio()


def names_there_are(key: str, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """List the names that a command line may use, when it is composed without the wrong key.

    Args:
        key: the wrong key.
        argv: the command line.

    Returns:
        The keys that can be set, and the groups that can be chosen.
    """
    from hydra.core.global_hydra import GlobalHydra

    named = [arg for arg in argv if "=" in arg and not arg.startswith("-")]
    chosen = [arg for arg in named if "." not in arg.split("=")[0] and arg.split("=")[0].lstrip("+~") != key]
    folder = user_folder(argv)
    shipped = [f"hydra.searchpath=[file://{config_dir()}]"] if folder else []
    try:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(folder or config_dir()), version_base="1.3"):
            for overrides in (chosen, []):
                try:
                    config = hydra.compose("config", overrides=[*shipped, *overrides], return_hydra_config=True)
                except Exception:
                    continue
                groups = [group for group in config.hydra.runtime.choices if not group.startswith(("hydra", "tuned"))]
                task = task_part(config)
                declared = [name for name, setting, _ in every_key(task) if setting is not None]
                nodes = {name.rpartition(".")[0] for name in declared}
                return [name for name in declared if name not in nodes], [g.partition("@")[0] for g in groups]
    except Exception:
        return [], list(GROUP_KEYS)
    return [], list(GROUP_KEYS)
