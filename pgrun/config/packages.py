"""Installed packages that bring configs of their own, by the entry point `pgrun.configs`.

A package says in its pyproject.toml where its YAML files lie; they are laid out as pgrun's own:

    [project.entry-points."pgrun.configs"]
    mine = "my_package.configs"

Nothing of a package is imported here: its files are found beside its code.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pgrun.config.paths import config_dir

ENTRY_POINTS = "pgrun.configs"
PROVIDER = "package "  # stands before a package's name where Hydra says whose a folder of configs is


@dataclass(frozen=True)
class Package:
    """An installed package with configs.

    Args:
        name: the distribution's, as pip has it.
        folder: where its YAML files lie.
    """

    name: str
    folder: Path

    def files(self) -> list[str]:
        """List its configs, as algo/mine."""
        found = (path.relative_to(self.folder).with_suffix("") for path in self.folder.rglob("*.yaml"))
        return sorted(path.as_posix() for path in found)


def packages() -> tuple[Package, ...]:
    """List the installed packages with configs, by name."""
    return read(tuple(sys.path), os.getcwd())[0]


def faults() -> list[str]:
    """Say what is wrong with installed packages: configs that can't be found, or never count; a line for each."""
    broken = list(read(tuple(sys.path), os.getcwd())[1])
    seen = {path.relative_to(config_dir()).with_suffix("").as_posix(): "pgrun" for path in shipped()}
    for package in packages():
        for name in package.files():
            if name in seen:
                theirs = "pgrun" if seen[name] == "pgrun" else f"the package {seen[name]}"
                broken.append(
                    f"the package {package.name} has a config {name}, which {theirs} has, too: that of {theirs} counts "
                    f"(--config-dir {package.folder} would take the other)"
                )
            seen.setdefault(name, package.name)
    return broken


def shipped() -> Iterator[Path]:
    """Yield the files of pgrun's own configs."""
    return config_dir().rglob("*.yaml")


def is_package(source: Any) -> bool:
    """Return whether a folder that Hydra took configs from (`hydra.runtime.config_sources`) is a package's."""
    return str(source.get("provider")).startswith(PROVIDER)


@cache
def read(path: tuple[str, ...], here: str) -> tuple[tuple[Package, ...], tuple[str, ...]]:
    """Read the entry points of installed packages; -> the packages, and a line for each that is broken.

    Args:
        path: where Python looks for packages.
        here: the working directory, in which nothing is installed, whatever a stranger may have put there.
    """
    places = [place for place in path if place and Path(place).resolve() != Path(here).resolve()]
    if not any(map(mentioned, places)):
        return (), ()
    from importlib.metadata import distributions  # takes longer than all of `pgrun --help`

    found: dict[Path, Package] = {}
    broken = []
    for distribution in distributions(path=places):
        for point in distribution.entry_points.select(group=ENTRY_POINTS):
            name = str(distribution.metadata["Name"])
            folder = folder_of(point.value)
            if isinstance(folder, Path):
                found.setdefault(folder.resolve(), Package(name, folder))
            else:
                broken.append(
                    f"the package {name} is broken: its entry point {ENTRY_POINTS}, {point.name} = {point.value!r}, "
                    f"{folder}"
                )
    return tuple(sorted(found.values(), key=lambda package: package.name)), tuple(sorted(set(broken)))


def mentioned(place: str) -> bool:
    """Return whether any package that is installed in a folder speaks of this entry point."""
    try:
        names = [entry.path for entry in os.scandir(place) if entry.name.endswith("-info")]
    except OSError:
        return False
    for name in names:
        try:
            with open(os.path.join(name, "entry_points.txt"), encoding="utf-8") as file:
                if ENTRY_POINTS in file.read():
                    return True
        except (OSError, ValueError):
            continue
    return False


def folder_of(value: str) -> Path | str:
    """Find the folder that an entry point such as `my_package.configs` names, or say in words what it does."""
    top, *below = value.split(".")
    if not re.fullmatch(r"\w+(\.\w+)*", value):
        return "should name a package with YAML files, as my_package.configs"
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return f"names a package {top} that is not there"
    folders = [Path(place, *below) for place in spec.submodule_search_locations or ()]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        return f"names no folder in {', '.join(spec.submodule_search_locations or [str(spec.origin)])}"
    if next(folder.rglob("*.yaml"), None) is None:
        return f"names {folder}, in which there are no .yaml files"
    return folder


def docstring(target: str) -> str:
    """Read a class's docstring in its file; empty where there is none, or no such file or class."""
    module, _, name = target.rpartition(".")
    top, *below = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        folders = [Path(place, *below) for place in (spec.submodule_search_locations if spec else None) or ()]
        files = [*(folder / "__init__.py" for folder in folders), *(f.with_suffix(".py") for f in folders if below)]
        if spec and spec.origin and not below:
            files.append(Path(spec.origin))
        file = next(path for path in files if path.is_file())
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (ImportError, ValueError, StopIteration, OSError, SyntaxError):
        return ""
    found = (node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name)
    return next((ast.get_docstring(node) or "" for node in found), "")
