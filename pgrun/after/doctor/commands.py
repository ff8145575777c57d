"""Commands to paste: a run's own words with what a finding changes, and with what the findings before it did."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pgrun.after.doctor.evidence import Evidence
from pgrun.config.paths import config_dir
from pgrun.errors import UserError
from pgrun.run.directory import flat
from pgrun.sweep.shipped import compose_shipped

CHOICE = re.compile(r"([a-z_]+(?:/[a-z_]+)*)=(\w+)")  # of a member of a config group


@dataclass(frozen=True)
class Advice:
    """The advice that goes with a finding.

    Attributes:
        command: to paste; empty where no key is to be changed.
        leave_out: what it leaves out of what was typed, and which value then counts; empty where nothing.
        others: words to try instead, of keys that no command before it has changed.
    """

    command: str = ""
    leave_out: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shipped:
    """The settings that pgrun itself has for a pair: values by dotted key, and the keys that are tuned for it."""

    values: dict[str, Any]
    tuned: tuple[str, ...]


class Commands:
    """The commands of one report, in its order: each also mends what those before it do.

    Args:
        run: the run that they are for.
    """

    def __init__(self, run: Evidence) -> None:
        self.run = run
        self.words = list(run.words)
        self.mended: set[str] = set()

    def advise(self, changes: tuple[str, ...]) -> Advice:
        """Change the first of these words' keys that no earlier command has changed, and return the command.

        Where the key was typed, and what pgrun ships lies in the direction of the change, the key is left out instead.
        """
        if not changes:
            return Advice()
        said = ""
        others = tuple(word for word in changes if key_of(word) not in self.mended)
        if others:
            word = others[0]
            key = key_of(word)
            typed = any(key_of(each) == key for each in self.words)
            self.words = [each for each in self.words if key_of(each) != key]
            self.mended.add(key)
            if typed and self.is_way(key, word.partition("=")[2]):
                why = "is tuned for this pair" if key in self.shipped.tuned else "is its default"
                said = f"leave {key} out: {self.shipped.values[key]} {why}"
            else:
                self.words.append(word)
                others = others[1:]
        return Advice(shlex.join(["pgrun", *self.words]), said, others)

    def is_way(self, key: str, wanted: str) -> bool:
        """Tell whether the value that pgrun ships differs from the run's in the direction of a wanted value."""
        now, shipped = self.run.number(key), self.shipped.values.get(key)
        if now is None or isinstance(shipped, bool) or not isinstance(shipped, (int, float)):
            return shipped is not None and str(shipped).lower() == wanted.lower()
        try:
            return (shipped - now) * (float(wanted) - now) > 0.0
        except ValueError:
            return False

    @cached_property
    def shipped(self) -> Shipped:
        """The shipped values for what was chosen; none where that isn't all pgrun's own."""
        chosen = [word for word in self.run.words if (config_dir() / key_of(word)).is_dir()]
        if not all(is_shipped(word) for word in chosen):
            return Shipped({}, ())
        try:
            config, tuned = compose_shipped(chosen)
            return Shipped(flat(config), tuned)
        except UserError:
            return Shipped({}, ())


def is_shipped(word: str) -> bool:
    """Tell whether a word chooses a member of a group that pgrun ships; `none` is one of tuned values."""
    match = CHOICE.fullmatch(word)
    return match is not None and (word == "tuned=none" or (config_dir() / match[1] / f"{match[2]}.yaml").is_file())


def key_of(word: str) -> str:
    """Return the key of a word of the command line."""
    return word.lstrip("+~").partition("=")[0]
