"""Secrets in texts that are kept: passwords, tokens and keys are replaced by stars."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

STARS = "***"
NAMES = (
    r"[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)s?[\w-]*"
)
# name = value, name: value, "name": "value", --name value; a value is a quoted text, or runs to the next blank
VALUE = r"""("[^"\n]*"|'[^'\n]*'|[^\s,;)}\]]+)"""
ASSIGNED = re.compile(rf"""(?i)(\b{NAMES}["']?[ \t]*[=:][ \t]*){VALUE}""")
FLAG = re.compile(rf"(?i)(--{NAMES}[ \t]+){VALUE}")
# what looks like a key of a known kind wherever it stands, and a password in an address
KNOWN = re.compile(
    r"\b(?:sk-[\w-]{16,}|gh[opsu]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}"
    r"|hf_\w{20,}|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,})"
)
IN_ADDRESS = re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)@")
PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
NAMED = re.compile(rf"(?i){NAMES}")


def masked(text: str) -> str:
    """Replace what looks like a secret in a text by stars."""
    text = PRIVATE.sub(STARS, text)
    for pattern in (ASSIGNED, FLAG):
        text = pattern.sub(rf"\1{STARS}", text)
    return IN_ADDRESS.sub(rf"\1:{STARS}@", KNOWN.sub(STARS, text))


def masked_values(content: Any, key: str = "") -> Any:
    """Copy nested values, with stars in place of texts that look like secrets or whose key is called like one."""
    if isinstance(content, Mapping):
        return {name: masked_values(value, str(name)) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [masked_values(value, key) for value in content]
    if isinstance(content, str):
        return STARS if content and NAMED.fullmatch(key) else masked(content)
    return content
