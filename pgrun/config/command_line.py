"""Read a command line's words before anything heavy is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pgrun.errors import UserError


def flag(argv: Sequence[str], long: str, short: str) -> str | None:
    """Return a flag's value on a command line; None without that flag."""
    for i, word in enumerate(argv):
        if word in (long, short):
            return argv[i + 1] if i + 1 < len(argv) else None
        if word.startswith(f"{long}="):
            return word.partition("=")[2]
    return None


def user_folder(argv: Sequence[str]) -> Path | None:
    """Return the absolute path of the folder that `--config-dir` (or `-cd`) names; None without that flag.

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
    """Return whether a command line asks for many jobs, by a flag or by a file of the group sweep."""
    return any(arg in ("-m", "--multirun", "hydra.mode=MULTIRUN") or arg.startswith("+sweep=") for arg in argv)


OPEN = ("eval.env.", "env.kwargs.", "hooks.", "hydra.launcher.additional_parameters.", "hydra.sweeper.params.")


def whole_numbers(argument: str) -> str:
    """Rewrite `total_steps=1e6` as `total_steps=1000000`; see `pgrun.api.rewriting`.

    Integers need that form, and floats take it too.
    """

    def rewrite(match: re.Match[str]) -> str:
        value = float(match[0])
        return str(int(value)) if value.is_integer() and value < 1e18 else match[0]

    return re.sub(r"(?<=[=,])\d+(?:\.\d*)?[eE]\+?\d+(?=,|$)", rewrite, argument)


def any_key(argument: str) -> str:
    """Rewrite `env.kwargs.size=3` as `++env.kwargs.size=3`, where any key will do; see `pgrun.api.rewriting`."""
    return f"++{argument}" if argument.startswith(OPEN) else argument
