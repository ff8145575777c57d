"""Read the small files of a run or a sweep that somebody else may have made: with bounds, and without surprises."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pgrun.errors import UserError

LARGEST = 4_000_000  # bytes of a config, a result or a list: hundreds of times what pgrun writes
LARGEST_LIST = 64_000_000  # bytes of a list of jobs or of an Optuna journal, which grow with a sweep
DEEPEST = 50  # levels of nesting in such a file; pgrun's own have less than ten
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of the C library, where there is one
FILES = ("result.json", "pgrun.log", ".lock", "config.yaml", "hydra.yaml", "overrides.yaml", "resumed.yaml")
FOLDERS = (".hydra", "checkpoints")


def read_text(path: Path, largest: int = LARGEST, errors: str = "strict") -> str | None:
    """Read a text file; return None if there is none.

    Args:
        path: the file.
        largest: how many bytes it may have.
        errors: what to do with bytes that are no text, as for `bytes.decode`.

    Raises:
        UserError: it is no regular file, too large, no text, or can't be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # to open a pipe would keep us waiting
            raise UserError(f"can't read {path}: it is {kind_of(status.st_mode)}, and no file")
        if status.st_size > largest:
            raise UserError(f"{path} has {status.st_size:,} bytes, and no more than {largest:,} are read of it")
        with open(path, "rb") as file:
            return file.read(largest).decode("utf-8", errors)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text") from error
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror or error}") from error


def kind_of(mode: int) -> str:
    """Name in words what is no regular file."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain values; return None if there is none, or nothing in it.

    Raises:
        UserError: it can't be read, is no YAML, or has anchors or a depth that pgrun never writes.
    """
    text = read_text(path)
    return None if text is None else parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """Parse a YAML text as plain values.

    Args:
        text: the text.
        name: where it comes from, for messages.

    Raises:
        UserError: it is no YAML, or has anchors or a depth that pgrun never writes.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise UserError(f"{name} refers back by *{event.anchor}, which no file of pgrun's does")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise UserError(f"{name} is nested more than {DEEPEST} levels deep, which no file of pgrun's is")
        content = OmegaConf.create(text) if text.strip() else None  # whose loader reads 1e-3 as a number
        return OmegaConf.to_container(content, resolve=False) if OmegaConf.is_config(content) else content
    except OmegaConfBaseException as error:
        raise UserError(f"{name}: {str(error).splitlines()[0]}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{name}{where}: {problem}") from error
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise UserError(f"{name} is no YAML: {type(error).__name__}") from error


def read_json(path: Path, largest: int = LARGEST) -> Any:
    """Read a JSON file; return None if there is none.

    Raises:
        UserError: it can't be read, or is no JSON.
    """
    text = read_text(path, largest)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON, or torn") from error


def read_object(path: Path, largest: int = LARGEST) -> dict[str, Any] | None:
    """Read a JSON file that holds an object; return None if there is none.

    Raises:
        UserError: it can't be read, or holds anything else.
    """
    content = read_json(path, largest)
    if content is None and not os.path.lexists(path):
        return None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no object, as {{…}}")
    return content


def links_away(folder: Path) -> list[str]:
    """Look at what a run or a sweep's folder holds, and list the links in it that lead out of it.

    Args:
        folder: the run directory; it may itself be a link.

    Returns:
        Their names, from the folder.

    Raises:
        UserError: something in it is neither a file, a folder nor a link, or no file where pgrun writes one.
    """
    home = folder.resolve()
    away = []
    for path in entries(folder):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(mode):
            if not path.resolve().is_relative_to(home):
                away.append(str(path.relative_to(folder)))
            with suppress(OSError):
                mode = path.stat().st_mode
        if (path.name in FILES and stat.S_ISDIR(mode)) or stat.S_IFMT(mode) not in (
            stat.S_IFREG,
            stat.S_IFDIR,
            stat.S_IFLNK,
        ):
            raise UserError(f"can't use {folder}: {path.relative_to(folder)} is {kind_of(mode)}, and no file")
        if path.name in FOLDERS and path.parent == folder and stat.S_ISREG(mode):
            raise UserError(f"can't use {folder}: {path.name} is a file, and no folder")
    return away


def entries(folder: Path) -> Iterator[Path]:
    """Yield what lies in a run directory, and in the folders in it that pgrun writes into."""
    for place in (folder, *(folder / name for name in FOLDERS)):
        with suppress(OSError), os.scandir(place) as found:
            for entry in found:
                yield place / entry.name
