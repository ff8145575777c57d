"""The words of a command line, read before anything heavy is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pgrun.errors import UserError


def flag(argv: Sequence[str], long: str, short: str) -> str | None:
    """A flag's value on a command line."""
    for i, word in enumerate(argv):
        if word in (long, short):
            return argv[i + 1] if i + 1 < len(argv) else None
        if word.startswith(f"{long}="):
            return word.partition("=")[2]
    return None


def user_folder(argv: Sequence[str]) -> Path | None:
    """The folder that `--config-dir` (or `-cd`) names on a command line, absolute; None without one.

    Raises:
        UserError: it is no folder.
    """
    named = flag(argv, "--config-dir", "-cd")
    if named is None:
        return None
    folder = Path(named).absolute()
    if not folder.is_dir():
        raise UserError(f"--config-dir {named} is no folder")
    return folder


def is_sweep(argv: Sequence[str]) -> bool:
    """Tell whether a command line asks for many jobs; the files of the group sweep ask for them too."""
    return any(arg in ("-m", "--multirun", "hydra.mode=MULTIRUN") or arg.startswith("+sweep=") for arg in argv)


OPEN = ("eval.env.", "env.kwargs.", "hydra.launcher.additional_parameters.", "hydra.sweeper.params.")


def whole_numbers(argument: str) -> str:
    """`total_steps=1e6` as `total_steps=1000000`: a number that is whole is written as one, which fits floats too."""

    def rewrite(match: re.Match[str]) -> str:
        value = float(match[0])
        return str(int(value)) if value.is_integer() and value < 1e18 else match[0]

    return re.sub(r"(?<=[=,])\d+(?:\.\d*)?[eE]\+?\d+(?=,|$)", rewrite, argument)


def any_key(argument: str) -> str:
    """`env.kwargs.size=3` as `++env.kwargs.size=3`, where any name may stand."""
    return f"++{argument}" if argument.startswith(OPEN) else argument
