"""The nearest right name to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, names: Iterable[str], n: int) -> list[str]:
    """The `n` names most like `word`, nearest first."""

    def likeness(name: str) -> tuple[float, str]:
        last = difflib.SequenceMatcher(None, word.rsplit(".", 1)[-1], name.rsplit(".", 1)[-1]).ratio()
        return (-(difflib.SequenceMatcher(None, word, name).ratio() + last), name)

    return sorted(names, key=likeness)[:n]
