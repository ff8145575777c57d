"""Errors of Hydra and OmegaConf in one line, with the nearest right name."""

from __future__ import annotations

import re
from collections.abc import Sequence

import hydra
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from pgrun.errors import UserError
from pgrun.paths import config_dir
from pgrun.suggest import nearest
from pgrun.validate import keys

GROUP_KEYS = ("algo", "env", "network", "optimizer", "memory", "collector", "algo/advantage", "algo/baseline")


def task_part(config: DictConfig) -> DictConfig:
    """A composed config without its `hydra` node."""
    task = config.copy()
    OmegaConf.set_struct(task, False)
    task.pop("hydra")
    return task


def instantiation(error: BaseException) -> str:
    """Hydra's failure to instantiate a `_target_`."""
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
    """Any other of their errors."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"can't read {error.override!r}: write key=value, quoted where the shell would take it apart"
    if match := re.search(r"Could not find '([^']+)'\n\nAvailable options in '([^']+)':\n((?:\t.*\n?)+)", text):
        name, group = match[1].rpartition("/")[2], match[2]
        return unknown_member(group, name, [line.strip() for line in match[3].splitlines() if line.strip()])
    if match := re.search(r"In '[^']*': Could not find '([^']+)/([^'/]+)'", text):
        members = [line.strip() for line in text.splitlines() if line.startswith("\t")]
        return unknown_member(match[1], match[2], members)
    if match := re.search(r"Could not load '([^']+)/([^'/]+)'", text):  # one of a list, as +sweep=[ppo,joblib]
        members = sorted(path.stem for path in (config_dir() / match[1]).glob("*.yaml"))
        return unknown_member(match[1], match[2], members)
    if match := re.search(r"Could not (?:override|delete|append[^']*) '?([^'\n]+)'?", text):
        return unknown_key(match[1].rstrip("."), argv)
    if isinstance(error, (MissingConfigException, ConfigCompositionException)):
        return " ".join(line.strip() for line in text.splitlines() if line.strip())
    return text.splitlines()[0] if text else type(error).__name__


def unknown_member(group: str, name: str, members: list[str]) -> str:
    """`algo=pp0`: the members there are, nearest first."""
    return f"{group}={name} is not known; {group} is one of {', '.join(nearest(name, members, len(members)))}"


def unknown_key(key: str, argv: Sequence[str]) -> str:
    """`algo.gama=0.9`: the nearest key there is."""
    from hydra.core.global_hydra import GlobalHydra

    names = [arg for arg in argv if "=" in arg and not arg.startswith("-")]
    groups = [arg for arg in names if "." not in arg.split("=")[0] and arg.split("=")[0].lstrip("+~") != key]
    known: list[str] = []
    try:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            for chosen in (groups, []):
                try:
                    config = hydra.compose("config", overrides=chosen, return_hydra_config=True)
                except Exception:
                    continue
                known = list(keys(task_part(config)))
                known += [group for group in config.hydra.runtime.choices if not group.startswith("hydra")]
                break
    except Exception:
        known = []
    close = nearest(key, known, 1)
    if "." not in key and (group := nearest(key, [name for name in GROUP_KEYS if name[0] == key[0]], 1)):
        close = group  # a word alone is a group more often than a key
    hint = f"did you mean {close[0]}?" if close else "pgrun --cfg job shows the keys there are"
    return f"there is no key {key}; {hint} (a new key is added with +{key}=…)"
