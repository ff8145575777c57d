"""Packages that only some commands need."""

from __future__ import annotations

from importlib.util import find_spec

from pgrun.errors import UserError


def need(command: str, extra: str, *packages: str) -> None:
    """Raise UserError, with the extra that brings them, if packages are not installed.

    Args:
        command: what needs them, for the message.
        extra: the extra of pgrun's that brings them.
        packages: their names as modules.
    """
    lacking = [package for package in packages if find_spec(package) is None]
    if lacking:
        raise UserError(f"{command} needs {' and '.join(lacking)}: pip install 'pgrun[{extra}]'")
