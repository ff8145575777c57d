"""Make the hooks of a config, and refuse those that can't be part of the run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pgrun.config.targets import find
from pgrun.data.callables import accepted
from pgrun.data.types import VectorEnv
from pgrun.errors import HookFailed, UserError, told
from pgrun.loop.hooked import state_of
from pgrun.loop.moments import MOMENTS, MakeEnv, Plan, RunHook
from pgrun.run.instantiate import takes_any

# names that are taken for moments, as other libraries have them
NEARLY = re.compile(r"(?:on_|at_|after_|before_)?(start|update|evaluat|eval|checkpoint|end)(?:ed|ing|ion|ions|e|s|d)?")
MOMENT_OF = {"evaluat": "evaluation", "eval": "evaluation"}


def make_hooks(config: DictConfig) -> dict[str, RunHook]:
    """Make the hooks of a config, by name; a name whose value is null has none.

    Raises:
        UserError: one is no hook, has a method whose name is nearly a moment's, or can't be made.
    """
    nodes = {str(name): node for name, node in (config.get("hooks") or {}).items() if node is not None}
    return {name: make_hook(name, node) for name, node in nodes.items()}


def make_hook(name: str, node: DictConfig) -> RunHook:
    """Make one hook.

    Raises:
        UserError: it can't be made.
    """
    target = str(node.get("_target_"))
    try:
        kind = find(target)
    except Exception as error:  # of a run that is resumed: its file has gone, or it was a notebook's
        raise UserError(f"hooks.{name}: {target} can't be had ({told(error)})") from error
    if not (inspect.isclass(kind) and issubclass(kind, RunHook)):
        raise UserError(f"hooks.{name}: {target} is no subclass of RunHook, which is in pgrun.loop.moments")
    check_moments(f"hooks.{name}: {target}", kind)
    arguments = {str(key): x for key, x in plain(node).items() if not str(key).startswith("_")}
    parameters = accepted(kind)
    missing = [
        key
        for key, p in parameters.items()
        if p.default is p.empty and key not in arguments and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if missing:
        raise UserError(f"hooks.{name}: {target} needs {', '.join(missing)}: give it as hooks.{name}.{missing[0]}=…")
    if (unknown := [key for key in arguments if key not in parameters]) and not takes_any(parameters):
        raise UserError(
            f"hooks.{name}: {target} takes no {unknown[0]!r}; it takes {', '.join(parameters) or 'nothing'}"
        )
    try:
        return kind(**arguments)
    except UserError as error:
        raise UserError(f"hooks.{name}: {error}") from error
    except Exception as error:
        raise UserError(f"hooks.{name}: {target} can't be made ({told(error)})") from error


def plain(node: DictConfig) -> dict[Any, Any]:
    """Return a node's content as plain values."""
    content = OmegaConf.to_container(node, resolve=True)
    assert isinstance(content, dict)
    return content


def check_moments(who: str, kind: type[RunHook]) -> None:
    """Raise UserError if a class has no moment, calls one otherwise, or takes other arguments there.

    Args:
        who: the hook, in words.
        kind: the class.
    """
    known = f"the moments are {', '.join(MOMENTS)}"
    layers = [layer for layer in kind.__mro__ if layer not in (RunHook, object)]
    methods = {name: x for layer in reversed(layers) for name, x in vars(layer).items() if inspect.isfunction(x)}
    for name in methods:
        found = NEARLY.fullmatch(name)
        if found and name not in MOMENTS:
            meant = MOMENT_OF.get(found[1], found[1])
            raise UserError(f"{who} has a method {name}, which is no moment; did you mean {meant}? ({known})")
    if not any(name in methods for name in (*MOMENTS, "check")) and not kind.reads:
        raise UserError(f"{who} has none of the moments, so nothing would call it: {known}")
    for name in (*MOMENTS, "check", "load_state_dict"):
        if name not in methods:
            continue
        try:
            inspect.signature(methods[name]).bind(None, None)
        except TypeError as error:
            argument = {"check": "plan", "load_state_dict": "state"}.get(name, "view")
            raise UserError(f"{who}: {name} is called as {name}(self, {argument}), and can't be ({error})") from error


def stop_holds(state: Mapping[str, Any], config: DictConfig) -> bool:
    """Tell whether a hook stopped a checkpoint's run, and has the same settings in this config."""
    stopped = (state.get("hooks") or {}).get("stopped")
    if stopped is None:
        return False
    before, now = ((c.get("hooks") or {}).get(stopped["by"]) for c in (state["config"], plain(config)))
    return bool(before == now)


def reads_of(hooks: Mapping[str, RunHook]) -> dict[str, Any]:
    """Return the keys of `info` that hooks ask for.

    Raises:
        UserError: two ask for one key in different ways.
    """
    reads: dict[str, Any] = {}
    for name, hook in hooks.items():
        for key, over in hook.reads.items():
            if reads.setdefault(key, over) != over:
                raise UserError(f"hooks.{name} reads info[{key!r}] by its {over}, and another hook by its {reads[key]}")
    return reads


def check_hooks(
    hooks: Mapping[str, RunHook], config: DictConfig, env: VectorEnv, workers: int, make_env: MakeEnv
) -> None:
    """Have each hook look at the run as it is planned.

    Args:
        hooks: by name.
        config: the run's.
        env: training's environments.
        workers: processes that run the loop.
        make_env: makes one more.

    Raises:
        UserError: a hook can't be part of it.
    """
    if not hooks:
        return
    plan = Plan(plain(config), env, workers, make_env)
    for name, hook in hooks.items():
        try:
            hook.check(plan)
            state_of(name, hook)
        except HookFailed as error:
            raise UserError(str(error)) from error
        except UserError as error:
            raise UserError(f"hooks.{name}: {error}") from error
        except Exception as error:
            raise UserError(f"hooks.{name} failed at check: {told(error)}") from error
