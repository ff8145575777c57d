"""Suggest the nearest right name for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, names: Iterable[str], n: int) -> list[str]:
    """Return the `n` names most similar to `word`, nearest first, ignoring case."""
    word = word.lower()

    def likeness(name: str) -> tuple[float, str]:
        low = name.lower()
        last = difflib.SequenceMatcher(None, word.rsplit(".", 1)[-1], low.rsplit(".", 1)[-1]).ratio()
        return (-(difflib.SequenceMatcher(None, word, low).ratio() + last), name)

    return sorted(names, key=likeness)[:n]


def likeness(word: str, name: str) -> float:
    """Measure how similar two words are, from 0 to 1."""
    return difflib.SequenceMatcher(None, word.lower(), name.lower()).ratio()
