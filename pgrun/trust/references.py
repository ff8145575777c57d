"""Resolve the references in another's config: `${algo.gamma}` and `${oc.select:key,default}`, and no others.

OmegaConf's own resolving calls functions that read the environment or files, and may be asked to multiply a short
config into an endless one.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([A-Za-z_][\w.]*)(?:,([^${},]*))?\}")
CALL = re.compile(r"\$\{([\w.]+):")
FURTHEST = 10  # references that lead to one another


class Unresolved(Exception):
    """Raised for a reference of another kind; the message is its text, as it may be told."""


def resolve(config: dict[str, Any]) -> dict[str, Any]:
    """Copy a config's plain values with references in place of which stands what they refer to.

    Raises:
        Unresolved: a value refers in another way, or to nothing, or to more than one value.
    """
    return {key: resolved_value(value, config) for key, value in config.items()}


def resolved_value(value: Any, config: dict[str, Any]) -> Any:
    """Copy one of a config's values, or a part of it, in the same way; see `resolve`."""
    if isinstance(value, dict):
        return {key: resolved_value(item, config) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved_value(item, config) for item in value]
    for _ in range(FURTHEST):
        if not isinstance(value, str) or "${" not in value:
            return value
        match = REFERENCE.fullmatch(value)
        if match is None or (match[2] is not None and "oc.select:" not in value):
            raise Unresolved(told(value))
        node: Any = config
        for part in match[1].split("."):
            node = node.get(part, Unresolved) if isinstance(node, dict) else Unresolved
        if node is Unresolved:
            if match[2] is None:
                raise Unresolved(told(value))
            node = yaml.safe_load(match[2])
        if isinstance(node, dict | list):
            raise Unresolved(told(value))
        value = node
    raise Unresolved("references that lead to one another")


def told(text: str) -> str:
    """Return what a value refers to in a short form, without its surroundings."""
    if match := CALL.search(text):
        return f"${{{match[1]}:…}}"
    return text if len(text) <= 40 else f"{text[:39]}…"


def escaped(value: Any) -> Any:
    """Copy plain values, with references written so that OmegaConf takes them for text."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value
