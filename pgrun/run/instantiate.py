"""Instantiate a config's target with its keys and with objects that only the run knows."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from pgrun.config.near_methods import check_methods
from pgrun.config.targets import find
from pgrun.data.callables import accepted
from pgrun.errors import UserError
from pgrun.trust.kinds import check_kinds, targets


class Missing(UserError):
    """Arguments that a class needs and its config doesn't give.

    Args:
        target: the class's name.
        names: of the arguments.
        path: the config node's dotted path.
    """

    def __init__(self, target: str, names: Sequence[str], path: str) -> None:
        super().__init__(f"{target} needs {', '.join(names)}, which its YAML does not give")
        self.target, self.names, self.path = target, names, path


def made(config: DictConfig, path: str) -> Any:
    """Make what a config's node names, once everything in it is known to be a class of the kind that its slot takes.

    Args:
        config: a node with a `_target_`.
        path: its dotted path in the whole config.

    Raises:
        UserError: it, or a node in it, names no class of that kind, or one with a method that is nearly one of its
            base's.
    """
    content = OmegaConf.to_container(config, resolve=True)
    check_kinds(content, path)
    for where, target in targets(content, path):
        check_methods(find(str(target)), f"{where}: {target}")
    return instantiate(config, _convert_="all")


def call(config: DictConfig, path: str, **objects: Any) -> Any:
    """Call a config's `_target_` (with `_partial_: true`) with its keys and with objects that only the run knows.

    An object that the target has no argument for is left out, so that a class of the user's asks only for what it uses.

    Args:
        config: a node with a `_target_`.
        path: its dotted path in the whole config.
        objects: the objects, by the names of their arguments.

    Raises:
        UserError: it names no class of the kind that its slot takes, or an argument is unknown to it, or missing.
    """
    factory = made(config, path)
    target = factory.func if hasattr(factory, "func") else factory
    parameters = accepted(target)
    if not takes_any(parameters):
        objects = {key: value for key, value in objects.items() if key in parameters}
        name = config.get("_target_", "")
        check_arguments(factory, name, objects)
        missing = [
            key
            for key, p in parameters.items()
            if p.default is p.empty and key not in factory.keywords and key not in objects
        ]
        if missing:
            raise Missing(name, missing, path)
    return factory(**objects)


def check_arguments(factory: Any, name: str, objects: Iterable[str] = ()) -> None:
    """Raise UserError if a partial gives its target a key that the target takes no argument for.

    Args:
        factory: the partial, as a config node with `_partial_: true` makes it.
        name: the target's name.
        objects: arguments that are no keys, which the message leaves out.
    """
    parameters = accepted(factory.func)
    unknown = [key for key in factory.keywords if key not in parameters]
    if unknown and not takes_any(parameters):
        known = ", ".join(key for key in parameters if key not in objects)
        raise UserError(f"{name} takes no argument {unknown[0]!r}; it takes {known}")


def takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Tell whether arguments of any name are taken."""
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values())
