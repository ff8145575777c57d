"""Complete the short forms in which users write wrappers: a name alone, no `_partial_`, one without a list."""

from __future__ import annotations

import difflib
import inspect
from contextlib import suppress
from typing import Any

import gymnasium as gym
from omegaconf import OmegaConf

from pgrun.config.targets import NotThere, find, why_not
from pgrun.errors import UserError

FORM = "{_target_: module.Class, _partial_: true, …}"


def wrapper_settings(given: Any, key: str = "env.wrappers") -> list[dict[str, Any]]:
    """Return the wrappers of a config, each in the form that Hydra instantiates into a function of an environment.

    Args:
        given: a list of `_target_`s with arguments, or of names; one of them alone; or None.
        key: how to call it in messages.

    Raises:
        UserError: a wrapper doesn't exist, or is none.
    """
    plain = OmegaConf.to_container(given, resolve=True) if OmegaConf.is_config(given) else given
    wrappers = [] if plain is None else plain if isinstance(plain, list) else [plain]
    return [_setting(wrapper, f"{key}[{i}]") for i, wrapper in enumerate(wrappers)]


def _setting(wrapper: Any, key: str) -> dict[str, Any]:
    """Return one wrapper in that form."""
    if isinstance(wrapper, str):
        wrapper = {"_target_": wrapper}
    if not isinstance(wrapper, dict) or not isinstance(wrapper.get("_target_"), str):
        raise UserError(f"{key}={wrapper} is no wrapper: write {FORM}")
    path = wrapper["_target_"]
    if "." not in path and hasattr(gym.wrappers, path):
        path = f"gymnasium.wrappers.{path}"
    target = _found(path, key)
    arguments = {name: value for name, value in wrapper.items() if name[:1] != "_"}
    partial = bool(wrapper.get("_partial_")) or takes_environment(target, arguments)
    return {**wrapper, "_target_": path, "_partial_": partial}


def takes_environment(target: Any, arguments: dict[str, Any]) -> bool:
    """Return whether a target takes an environment before these arguments.

    Otherwise calling it with these arguments makes a function that takes the environment.
    """
    if inspect.isclass(target) and issubclass(target, gym.Env):
        return True
    try:
        signature = inspect.signature(target)
    except (ValueError, TypeError):
        return False
    if next(iter(signature.parameters), "") == "env":
        return True
    for before in ((), (None,)):
        with suppress(TypeError):
            signature.bind(*before, **arguments)
            return bool(before)
    return True  # wrong arguments are reported when there is an environment


def _found(path: str, key: str) -> Any:
    """Return the object that a dotted path names."""
    if "." not in path:
        near = difflib.get_close_matches(path, gym.wrappers.__all__, 2)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise UserError(f"{key}: gymnasium.wrappers has no {path}{hint}; one of yours is named module.Class")
    try:
        return find(path)
    except NotThere as error:
        raise UserError(f"{key}: {error}") from error
    except Exception as error:
        raise UserError(f"{key}: {path} can't be had ({why_not(error)})") from error
