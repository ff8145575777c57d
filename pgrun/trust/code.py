"""The code that a config names: which modules it would import, from where, and what else of it needs trust."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from typing import Any

from pgrun.trust.kinds import is_shipped, slot_of, targets

OWN = ("pgrun", "hydra_plugins", "torch", "gymnasium")
GAMES = {"ale_py"}  # packages of pgrun's extras that register environments with Gymnasium
PARALLEL = re.compile(r"(mpe2|pettingzoo\.(mpe|sisl|butterfly|classic|atari))\.\w+_v\d+")  # modules of PettingZoo's
MOST = {  # the most of what may be asked for by another's config
    "num_envs": 65_536,
    "workers": 64,
    "threads": 256,
    "episodes": 100_000,
}
WIDEST = 4_096  # units of a layer, or a number of a wrapper's


def modules_of(config: Any) -> set[str]:
    """List the modules of a config's own that it names, as far as their names can be read: `mine` of `mine.Mine`."""
    found = {name.rpartition(".")[0] for _, name in targets(config) if isinstance(name, str)}
    for _, id in ids(config):
        found.add(id.rpartition(":")[0] if ":" in id else id if re.fullmatch(r"\w+(\.\w+)*", id) else "")
    return {name for name in found if name and name.split(".")[0] not in OWN}


def top_names(config: Any) -> set[str]:
    """List the top-level names of `modules_of` a config."""
    return {name.split(".")[0] for name in modules_of(config)}


def ids(config: Any) -> Iterator[tuple[str, str]]:
    """Yield the ids of a config's environments, of training and of evaluation, each with its key."""
    if not isinstance(config, dict):
        return
    evaluation = config.get("eval")
    changed = evaluation.get("env") if isinstance(evaluation, dict) else None
    for key, env in (("env.id", config.get("env")), ("eval.env.id", changed)):
        if isinstance(env, dict) and isinstance(env.get("id"), str):
            yield key, env["id"]


def needs_trust(config: dict[str, Any], places: Sequence[str]) -> list[str]:
    """List what a config asks for that only a trusted one may: each as the end of "it would …".

    Args:
        config: the whole config as plain values, with references resolved.
        places: the folders where its code would be looked for first.
    """
    found = [f"call {name} ({path})" for path, name in targets(config) if not is_shipped(path, name)]
    found = list(dict.fromkeys(f"{text}{origin(text.split()[1], places)}" for text in found))
    for key, id in ids(config):
        node = config["env"] if isinstance(config.get("env"), dict) else {}
        target = str(node.get("_target_", ""))
        if not harmless_id(id, target):
            module = id.partition(":")[0]
            found.append(f"import {module} ({key}={id}){origin(module, places)}")
    return found + arguments(config)


def harmless_id(id: str, target: str) -> bool:
    """Return whether an environment's id is one of Gymnasium's own, or of a package that pgrun's extras install."""
    if target.endswith(".make_parallel"):
        return PARALLEL.fullmatch(id) is not None
    module, colon, name = id.rpartition(":")
    return not name.startswith("GymV2") and (not colon or module in GAMES)  # those would make others by their names


def arguments(config: dict[str, Any]) -> list[str]:
    """List the arguments by which shipped classes would reach out, or take what the machine does not have."""
    found = []
    for path, value in leaves(config):
        parts = re.sub(r"\[\d+\]", "", path).split(".")
        name, slot = parts[-1], slot_of(path)
        if name == "_args_":
            found.append(f"call by position ({path})")
        elif slot == "parallel.address" and value is not None:
            found.append(f"connect to {value} ({path})")
        elif slot.startswith("env.kwargs") and isinstance(value, str) and ("/" in value or "\\" in value):
            found.append(f"read {value} ({path})")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            wide = slot.startswith("network.") or slot.startswith(("env.wrappers", "env.kwargs"))
            most = MOST.get(name, WIDEST if wide else None)
            if most is not None and abs(value) > most:
                found.append(f"take {name}={value:g} ({path})")
    env = config.get("env")
    if isinstance(env, dict) and env.get("backend") == "async" and (env.get("num_envs") or 0) > MOST["threads"]:
        found.append(f"start {env['num_envs']} processes (env.num_envs)")
    return found


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value in nested ones, with its dotted path."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "_args_":
                yield f"{path}.{key}", None
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from leaves(value, f"{path}[{i}]")
    else:
        yield path, node


def origin(name: str, places: Sequence[str]) -> str:
    """Say where a module, or what is in it, would come from; nothing is imported."""
    top = name.split(".")[0]
    try:
        spec = importlib.util.find_spec(top) or PathFinder.find_spec(top, list(places))
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return "" if top in OWN else f" from a {top} that is not found"
    where = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    return f" from {where}" if where and where not in ("built-in", "frozen") else ""
