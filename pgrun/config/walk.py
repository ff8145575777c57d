"""Walk through a composed config: every key with its value and the declaration of its setting."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from pgrun.config import ranges
from pgrun.config.ranges import Place
from pgrun.config.root import EXTRAS
from pgrun.config.signatures import Part, Setting, Signature, signature
from pgrun.config.targets import find
from pgrun.config.types import core, is_mapping, names_a_file

ROOT = "pgrun.config.root.Root"
HYDRAS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


def makes(node: DictConfig) -> bool:
    """Return whether a node makes an object."""
    return "_target_" in node or OmegaConf.is_missing(node, "_target_")


def taken_by(target: str) -> Signature | None:
    """Return the arguments of a class or function; of the user's own, only names. None if they can't be known."""
    return signature(target) or of_users(target)


def known_of(target: str) -> Signature | None:
    """Return the arguments of a class or function; None if it can't be imported."""
    try:
        return taken_by(target)
    except Exception:
        return None


def of_users(target: str) -> Signature | None:
    """Return the arguments of a class or function of the user, and those inherited from pgrun's."""
    made: Any = find(target)
    settings: dict[str, Setting] = {}
    classes = made.__mro__ if inspect.isclass(made) else (made,)
    for base in classes:
        name = f"{base.__module__}.{getattr(base, '__qualname__', '')}"
        known = signature(name)
        if known is not None:
            return Signature(target, {**known.settings, **settings}, known.open, "")
        if inspect.isclass(base) and "__init__" not in vars(base):
            continue
        try:
            function: Any = base.__init__ if inspect.isclass(base) else base
            arguments = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return None
        types = pgruns_types(function)
        for a in arguments:
            if a.name != "self" and a.kind in (a.KEYWORD_ONLY, a.POSITIONAL_OR_KEYWORD):
                settings.setdefault(a.name, Setting(a.name, types.get(a.name, Any), "", False, None, name))
        if not any(a.kind is a.VAR_KEYWORD for a in arguments):
            return Signature(target, settings, False, "")
    return Signature(target, settings, True, "")


def pgruns_types(function: Any) -> dict[str, Any]:
    """Return the types of a user's arguments that are of `pgrun.config.ranges`; all others are the user's own."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # a name that is there for type checkers alone, say
        return {}

    def ours(type_: Any) -> bool:
        marks = getattr(type_, "__metadata__", ())
        return any(type(mark).__module__ == ranges.__name__ for mark in marks) or any(map(ours, typing.get_args(type_)))

    return {name: type_ for name, type_ in hints.items() if ours(type_)}


def is_section(type_: Any) -> bool:
    """Return whether a type is a section of keys that every run has, such as `eval`."""
    return (
        isinstance(type_, Part)
        and str(getattr(type_, "target", "")).startswith("pgrun.config.root.")
        and (type_.target != "pgrun.config.root.Part")
    )


def keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a config, without reading values."""
    for key, value in config.items_ex(resolve=False):
        if isinstance(value, DictConfig):
            yield from keys(value, f"{prefix}{key!s}.")
        else:
            yield f"{prefix}{key!s}"


def make_absolute(config: DictConfig) -> None:
    """Make the file names in a config absolute paths, so that they can be found from elsewhere later."""
    for key, setting, value in list(every_key(config)):
        path, _, name = key.rpartition(".")
        node = OmegaConf.select(config, path) if path else config
        if setting is None or not names_a_file(setting.type) or OmegaConf.is_interpolation(node, name):
            continue
        with open_dict(config):
            if isinstance(value, str):
                node[name] = absolute(value)
            elif isinstance(value, ListConfig):
                node[name] = [absolute(str(item)) for item in value]


def absolute(name: str) -> str:
    """Return a file's name as an absolute path; names such as `minari:ID`, which are no files, stay."""
    return name if name.startswith(Place().but) or not name else str(Path(name).absolute())


def every_key(config: DictConfig) -> Iterator[tuple[str, Setting | None, Any]]:
    """Yield every key of a composed config, with its declaration and its value."""
    root = signature(ROOT)
    assert root is not None
    yield from keys_of("", config, root)


def keys_of(path: str, node: DictConfig, taken: Signature | None) -> Iterator[tuple[str, Setting | None, Any]]:
    """Yield every key of a node and of the nodes in it."""
    extra = signature(EXTRAS[path]) if path in EXTRAS else None
    settings = {**(taken.settings if taken else {}), **(extra.settings if extra else {})}
    for name in map(str, node):
        key = f"{path}.{name}" if path else name
        if name in HYDRAS:
            continue
        value = None if OmegaConf.is_missing(node, name) else node[name]
        setting = settings.get(name)
        yield key, setting, value
        if isinstance(value, DictConfig):
            yield from keys_in(key, value, setting)


def keys_in(key: str, node: DictConfig, setting: Setting | None) -> Iterator[tuple[str, Setting | None, Any]]:
    """Yield every key of a node that is itself the value of a key."""
    inner: Any = core(setting.type) if setting else Any
    if makes(node):
        yield from keys_of(key, node, None if OmegaConf.is_missing(node, "_target_") else known_of(str(node._target_)))
    elif is_section(inner):
        yield from keys_of(key, node, signature(inner.target))
    elif setting and is_mapping(inner):
        kind = getattr(inner, "__args__", (str, Any))[-1]
        for name in map(str, node):
            if isinstance(node[name], DictConfig):
                yield from keys_in(f"{key}.{name}", node[name], None)
            elif kind is not Any:
                yield f"{key}.{name}", Setting(name, kind, setting.meaning, False, None, setting.owner), node[name]
