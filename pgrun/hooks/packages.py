"""Packages that single hooks need, which only an extra of pgrun's installs."""

from __future__ import annotations

from importlib.util import find_spec

from pgrun.errors import UserError


def need(extra: str, *packages: str) -> None:
    """Raise UserError if one of these packages is not installed, naming the extra that brings it."""
    if any(find_spec(package) is None for package in packages):
        raise UserError(f"it needs a package that is not installed: pip install 'pgrun[{extra}]'")
