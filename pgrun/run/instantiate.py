"""Instantiate a config's target with its keys and with objects that only the run knows."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from pgrun.data.callables import accepted
from pgrun.errors import UserError


def call(config: DictConfig, **objects: Any) -> Any:
    """Call a config's `_target_` (with `_partial_: true`) with its keys and with objects that only the run knows.

    An object that the target has no argument for is left out, so that a class of the user's asks only for what it uses.

    Args:
        config: a node with a `_target_`.
        objects: the objects, by the names of their arguments.

    Raises:
        UserError: an argument is unknown to the target, or missing.
    """
    factory = instantiate(config, _convert_="all")
    target = factory.func if hasattr(factory, "func") else factory
    parameters = accepted(target)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        objects = {key: value for key, value in objects.items() if key in parameters}
        name = config.get("_target_", "")
        for key in factory.keywords:
            if key not in parameters:
                known = ", ".join(k for k in parameters if k not in objects)
                raise UserError(f"{name} takes no argument {key!r}; it takes {known}")
        missing = [
            key
            for key, p in parameters.items()
            if p.default is p.empty and key not in factory.keywords and key not in objects
        ]
        if missing:
            raise UserError(f"{name} needs {', '.join(missing)}, which its YAML does not give")
    return factory(**objects)
