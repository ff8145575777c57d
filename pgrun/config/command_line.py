"""The words of a command line, read before anything heavy is loaded."""

from __future__ import annotations

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
