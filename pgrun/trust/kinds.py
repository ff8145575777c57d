"""The kinds of class that slots of a config take: checked before anything that a config names is called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import yaml

from pgrun.config.paths import config_dir
from pgrun.config.renamed import new_name
from pgrun.config.root import FUNCTIONS, KINDS
from pgrun.config.signatures import signature
from pgrun.config.targets import find, why_not
from pgrun.config.types import core, is_mapping
from pgrun.errors import UserError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of the C library, where there is one
ARTICLES = {"algo": "an algorithm", "env": "an environment", "optimizer": "an optimizer", "env.wrappers": "a wrapper"}
# Beside what shipped configs name: classes that compute and do nothing else.
OPTIMIZERS = "Adadelta Adagrad Adam Adamax AdamW ASGD NAdam RAdam RMSprop Rprop SGD"
WRAPPERS = (
    "AddWhiteNoise AtariPreprocessing Autoreset ClipAction ClipReward DelayObservation DiscretizeAction "
    "DiscretizeObservation FilterObservation FlattenObservation FrameStackObservation GrayscaleObservation "
    "MaxAndSkipObservation NormalizeObservation NormalizeReward OrderEnforcing PassiveEnvChecker "
    "RecordEpisodeStatistics RepeatAction RescaleAction RescaleObservation ReshapeObservation ResizeObservation "
    "StickyAction TimeAwareObservation TimeLimit"
)
# What shipped configs name and yet is trusted only in the user's own runs: it sends what a run finds to somewhere else.
REACHING = {"pgrun.hooks.wandb.Wandb", "pgrun.hooks.mlflow.Mlflow"}
HARMLESS = {
    "optimizer": {f"torch.optim.{name}" for name in OPTIMIZERS.split(" ")},
    "env.wrappers": {f"gymnasium.wrappers.{name}" for name in WRAPPERS.split(" ")},
}


def slot_of(path: str) -> str:
    """Return the slot that a dotted path is: `env.wrappers[1]` and `eval.env.wrappers[0]` are `env.wrappers`."""
    path = re.sub(r"\[\d+\]", "", path).removeprefix("eval.")
    path = re.sub(r"^algo\.advantage\.terms\..+", "algo.advantage", path)
    return re.sub(r"^(hydra\.callbacks|hooks)\..+", r"\1", path)


def targets(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the `_target_` of each node of plain values that has one, outermost first.

    A wrapper that is given by its name alone is one, too.
    """
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node["_target_"]
        for key, value in node.items():
            yield from targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from targets(value, f"{path}[{i}]")
    elif isinstance(node, str) and re.search(r"(^|\.)env\.wrappers(\[\d+\])?$", path):
        yield path, node


@cache
def shipped() -> dict[str, frozenset[str]]:
    """List what the shipped configs name, by slot: what another's config may name without being trusted."""
    found: dict[str, set[str]] = {slot: set(names) for slot, names in HARMLESS.items()}
    for path in config_dir().rglob("*.yaml"):
        group = path.parent.relative_to(config_dir()).as_posix()
        if group.split("/")[0] in (".", "hydra", "sweep", "tuned"):
            continue
        text = path.read_text(encoding="utf-8")
        base = "" if text.startswith("# @package _global_") else group.replace("/", ".")
        for where, name in targets(yaml.load(text, Loader=LOADER), base):
            found.setdefault(slot_of(where), set()).add(str(name))
    return {slot: frozenset(names - REACHING) for slot, names in found.items()}


def is_shipped(path: str, name: Any) -> bool:
    """Return whether a slot's target is one that pgrun itself has there, or a class that does nothing but compute."""
    if not isinstance(name, str):
        return False
    slot = slot_of(path)
    if slot == "env.wrappers" and "." not in name:
        name = f"gymnasium.wrappers.{name}"
    return new_name(name) in shipped().get(slot, ())


def check_kinds(node: Any, path: str) -> None:
    """Raise UserError if something in a node names no class of the kind that its slot takes.

    Their modules are imported, but nothing is called.

    Args:
        node: plain values, with references resolved.
        path: the node's dotted path in the config.
    """
    _check(node, path, None)


def _check(node: Any, path: str, declared: tuple[str, ...] | None) -> None:
    if isinstance(node, list):
        for i, item in enumerate(node):
            _check(item, f"{path}[{i}]", declared)
        return
    if not isinstance(node, dict):
        return
    if "_target_" not in node:
        for key, value in node.items():
            _check(value, f"{path}.{key}", declared)
        return
    name = node["_target_"]
    check_class(path, name, KINDS.get(slot_of(path), declared))
    taken = signature(new_name(name))
    settings = taken.settings if taken else {}
    for key, value in node.items():
        _check(value, f"{path}.{key}", declared_kinds(settings[key].type) if key in settings else None)


def declared_kinds(type_: Any) -> tuple[str, ...] | None:
    """Return the class of pgrun's that an annotation asks for, or of the values of a mapping; None for any other."""
    inner = core(type_)
    if is_mapping(inner):
        inner = core(getattr(inner, "__args__", (str, Any))[-1])
    target = str(getattr(inner, "target", ""))
    return (target,) if target.startswith("pgrun.") and not target.startswith("pgrun.config.") else None


def check_class(path: str, name: Any, kinds: tuple[str, ...] | None) -> None:
    """Raise UserError if a slot's target is no class of these kinds, or of no kind that is known.

    Args:
        path: the slot's.
        name: the target.
        kinds: full names of classes; none: any class will do.
    """
    key, slot = f"{path}._target_={name}", slot_of(path)
    if not isinstance(name, str):
        raise UserError(f"{path}._target_ should be the name of a class")
    if slot in FUNCTIONS and name in (FUNCTIONS[slot] or ()):
        return
    made = named(key, name)
    if FUNCTIONS.get(slot, ()) is None and inspect.isfunction(made):
        return
    if not inspect.isclass(made):
        raise UserError(f"{key} is {what(made)}: this takes a class, {words(slot, kinds)}")
    wanted = [named(key, kind) for kind in kinds or ()]
    if wanted and not any(is_kind(made, kind) for kind in wanted):
        raise UserError(f"{key} is no class of the kind that this takes: {words(slot, kinds)}{ways(slot, wanted)}")


def named(key: str, name: str) -> Any:
    """Return what a dotted name names; UserError if there is no such thing."""
    try:
        return find(name)
    except Exception as error:  # importing the user's code may raise anything
        raise UserError(f"{key} can't be had ({why_not(error)})") from error


def what(made: Any) -> str:
    """Say what a target is that is no class."""
    return "a module" if inspect.ismodule(made) else "a function" if callable(made) else "neither class nor function"


def words(slot: str, kinds: tuple[str, ...] | None) -> str:
    """Say which classes a slot takes."""
    bases = " or ".join(kinds or ())
    article = ARTICLES.get(slot, "")
    return f"{article or 'one'} that is a {bases}" if bases else article or "of your own or of a package"


def ways(slot: str, wanted: Sequence[type]) -> str:
    """Say which members of a slot's config group are of these kinds; empty if it has no group."""
    group, able = slot.replace(".", "/"), []
    for path in sorted((config_dir() / group).glob("*.yaml")):
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
        name = content.get("_target_") if isinstance(content, dict) else None
        if isinstance(name, str) and name != "???" and any(is_kind(named(group, name), kind) for kind in wanted):
            able.append(path.stem)
    return f"; use {group}={', '.join(able[:-1])} or {able[-1]}" if len(able) > 1 else ""


def is_kind(made: type, kind: type) -> bool:
    """Return whether a class is of a kind: a subclass, or where the kind is a protocol, one with its methods."""
    if not getattr(kind, "_is_protocol", False):
        return issubclass(made, kind)
    methods = [name for name, value in vars(kind).items() if name[:1] != "_" and inspect.isfunction(value)]
    return all(callable(getattr(made, name, None)) for name in methods)
