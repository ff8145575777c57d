"""A file of what was tuned for a pair: values, and sections of values that hold only with one member of a group.

Its sections are below `where`, each called after the member with which it holds:

    # @package _global_
    num_envs: 32
    where:
      optimizer=adam: {lr: 1e-3, schedule: linear}
      algo/advantage=gae: {lambda_: 0.8}

Hydra knows of no such sections, so to it each is a config file, `tuned/where/PAIR/optimizer=adam`. The root config asks
for `tuned/where/PAIR`, whose defaults ask for the sections of those members that are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgrun.errors import UserError

GROUP = "tuned"
WHERE = "where"
SECTIONS = f"{GROUP}/{WHERE}"


def split(config_path: str) -> tuple[str, str]:
    """Split the path by which Hydra asks for sections into a pair and a section; empty where it asks for no such."""
    if not config_path.startswith(f"{SECTIONS}/"):
        return "", ""
    pair, _, section = config_path.removeprefix(f"{SECTIONS}/").removesuffix(".yaml").partition("/")
    return pair, section


def sections(content: Mapping[Any, Any], path: str) -> dict[str, dict[str, Any]]:
    """Read a tuned file's sections; -> the values of each, by its name.

    Args:
        content: what the file holds.
        path: the file's, for messages.

    Raises:
        UserError: a section that is called after no group's member, or is no mapping.
    """
    found = content.get(WHERE) or {}
    if not isinstance(found, dict):
        raise UserError(f"{path}: {WHERE} takes sections, as optimizer=adam: {{lr: 1e-3}}")
    for name, values in found.items():
        group, equals, member = str(name).partition("=")
        if not (group and equals and member and isinstance(values, dict)):
            raise UserError(f"{path}: {WHERE} takes sections, as optimizer=adam: {{lr: 1e-3}}, and no {name}: {values}")
    return found


def parents(content: Mapping[Any, Any]) -> list[str]:
    """List the tuned files that a tuned file builds on."""
    return [each for each in content.get("defaults") or [] if isinstance(each, str) and each != "_self_"]


def asked_for(pair: str, content: Mapping[Any, Any], path: str) -> list[Any]:
    """Write the defaults list that asks for a tuned file's sections, after those of the files that it builds on.

    Args:
        pair: the file's name.
        content: what it holds.
        path: its path, for messages.
    """
    groups = dict.fromkeys(name.partition("=")[0] for name in sections(content, path))
    chosen = [
        {f"optional /{SECTIONS}/{pair}@_global_.{group.replace('/', '.')}": f"{group}=${{oc.select:{group},''}}"}
        for group in groups
    ]
    return [*parents(content), *chosen]
