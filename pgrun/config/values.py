"""Check a composed config: compare each key with the arguments of the class or function that takes it."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pgrun.config.root import EXTRAS, GIVEN
from pgrun.config.signatures import Part, Setting, Signature, signature
from pgrun.config.suggest import likeness, nearest
from pgrun.config.targets import find, why_not
from pgrun.config.types import core, is_mapping, is_plain, may_be_null, problem, said, words
from pgrun.config.walk import HYDRAS, ROOT, every_key, is_section, makes, taken_by
from pgrun.errors import UserError

AT_ROOT = "let its file begin with '# @package _global_', above any other comment"
CALLED = ("algo", "env", "collector", "memory", "parallel")  # what the run makes with objects that only it has


class WrongSetting(UserError):
    """An unknown key, or a key with a wrong value.

    Args:
        key: its dotted name.
        message: what is wrong, and what would be right.
        lacked_by: the node that lacks it, if it is one that should be there.
    """

    def __init__(self, key: str, message: str, lacked_by: str = "") -> None:
        super().__init__(message)
        self.key, self.lacked_by = key, lacked_by


def validate(config: DictConfig, choices: Mapping[str, str] | None = None) -> None:
    """Check a composed config without its `hydra` node.

    Args:
        config: the config.
        choices: the chosen member of each group, by the group's name.

    Raises:
        WrongSetting: the first key that is unknown, has a wrong type, or is out of its range.
    """
    try:
        root = signature(ROOT)
        assert root is not None
        used = used_by_others(config)
        check_packages(config, choices or {}, root, used)
        check_keys("", config, root, used)
        check_eval_env(config, used)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error


def check_packages(config: DictConfig, choices: Mapping[str, str], root: Signature, used: set[str]) -> None:
    """Refuse a file of a user's own group whose keys stay in a node that nothing reads.

    Raises:
        WrongSetting: the group has such a file.
    """
    for group, member in choices.items():
        node = group.partition("@")[0].split("/")[0]
        inside = config.get(node)
        if node in config and node not in root.settings and node not in used:
            first = f"{node}.{next(map(str, inside), '')}" if isinstance(inside, DictConfig) else node
        elif node == group and isinstance(inside, DictConfig) and isinstance(inside.get(node), DictConfig):
            first = f"{node}.{node}"
        else:
            continue
        raise WrongSetting(first, f"{group}={member} sets {first}, which nothing reads: {AT_ROOT}")


def check_eval_env(config: DictConfig, used: set[str]) -> None:
    """Check the changes of `eval.env` as keys of the environment."""
    changes = config.eval.get("env")
    if changes and isinstance(config.env, DictConfig):
        node = config.env.copy()
        OmegaConf.set_struct(node, False)
        node.pop("shaping", None)
        node.merge_with(changes)
        check_part("eval.env", node, used)


def used_by_others(config: DictConfig) -> set[str]:
    """Find the keys that interpolations in the config read, such as `lr` of `${lr}`, and the nodes above them."""
    text = str(OmegaConf.to_container(config, resolve=False))
    names = re.findall(r"\$\{(?:oc\.select:)?([\w.]+)", text)
    return {".".join(name.split(".")[: i + 1]) for name in names for i in range(name.count(".") + 1)}


def check_keys(path: str, node: DictConfig, taken: Signature, used: set[str]) -> None:
    """Check a node whose keys are the arguments of a constructor.

    Args:
        path: the node's key; empty for the root.
        node: the node.
        taken: the constructor's arguments.
        used: keys that interpolations read, which need no other use.
    """
    extra = signature(EXTRAS[path]) if path in EXTRAS else None
    settings = {**taken.settings, **(extra.settings if extra else {})}
    for name in GIVEN.get(path, ()):
        if name in node and name in settings:
            key = f"{path}.{name}"
            raise WrongSetting(key, f"{key} is no key: the run itself gives {name} to {short(taken.owner)}")
        settings.pop(name, None)
    misspelt = any(meant(name) == "_partial_" != name for name in map(str, node))
    if path in CALLED and not node.get("_partial_") and not misspelt:
        text = f"{path} lacks _partial_: true, as the run itself gives arguments to {short(taken.owner)}, too"
        raise WrongSetting(f"{path}._partial_", text, lacked_by=path)
    for name in map(str, node):
        key = f"{path}.{name}" if path else name
        if OmegaConf.is_missing(node, name):
            raise WrongSetting(key, f"{key} has no value: give it one, {key}=…")
        if name in HYDRAS:
            continue
        setting = settings.get(name)
        if setting is not None:
            check_value(read_from(node, name) or key, node[name], setting.type, used)
        elif not taken.open and (makes(node) or key not in used):  # whoever else reads it: here it would fail
            raise WrongSetting(key, unknown(key, path, settings, taken))
    for name, setting in settings.items():
        if setting.required and name not in node:
            key = f"{path}.{name}" if path else name
            text = f"{key} is missing: {short(taken.owner)} needs it; {advice(key, setting.type)}"
            raise WrongSetting(key, text, lacked_by=path)


def read_from(node: DictConfig, name: str) -> str:
    """Return the key that a setting has its value from, as `lr` of `${lr}`; "" where it has one of its own."""
    text = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[call-overload, index]
    found = re.fullmatch(r"\$\{([\w.]+)\}", text) if isinstance(text, str) else None
    return found[1] if found else ""


def check_value(key: str, value: Any, type_: Any, used: set[str]) -> None:
    """Check one value, and the nodes in it."""
    inner = core(type_)
    if isinstance(value, DictConfig):
        if is_plain(inner):
            raise WrongSetting(key, f"{key} should be {words(type_)}, and no mapping")
        if makes(value):
            check_part(key, value, used)
        elif is_section(inner):
            taken = signature(inner.target)
            assert taken is not None
            check_keys(key, value, taken, used)
        elif is_mapping(inner):
            kinds = getattr(inner, "__args__", (str, Any))
            for name in map(str, value):
                check_value(f"{key}.{name}", value[name], kinds[-1], used)
        elif isinstance(inner, Part) and not (len(value) == 0 and may_be_null(type_)):
            if near := [name for name in map(str, value) if meant(name) == "_target_"]:
                raise WrongSetting(
                    f"{key}.{near[0]}", f"{key}.{near[0]} should be {key}._target_: it says what is made"
                )
            text = f"{key} has no _target_, which says what it makes; {advice(key, type_)}"
            raise WrongSetting(f"{key}._target_", text, lacked_by=key)
        return
    if isinstance(value, ListConfig):
        for i, item in enumerate(value):
            if isinstance(item, DictConfig) and makes(item):
                check_part(f"{key}[{i}]", item, used)
        value = OmegaConf.to_container(value)
    if value is None and may_be_null(type_):
        return
    if isinstance(inner, Part) or is_mapping(inner):
        how = advice(key, type_, value if isinstance(value, str) else "NAME")
        raise WrongSetting(key, f"{key}={said(value)} should be {kind_of_node(inner)}; {how}")
    if wrong := problem(value, type_):
        raise WrongSetting(key, f"{key}={said(value)} {wrong}")


def check_part(key: str, node: DictConfig, used: set[str]) -> None:
    """Check a node that makes an object, if the object's arguments are known."""
    if OmegaConf.is_missing(node, "_target_"):
        raise WrongSetting(key, f"{key}._target_ has no value: give it one, {key}._target_=…")
    if not isinstance(node._target_, str):
        raise WrongSetting(key, f"{key}._target_={said(node._target_)} should be the name of a class or function")
    try:
        taken = taken_by(node._target_)
    except Exception as error:  # importing the user's code may raise anything
        text = f"{key}._target_={node._target_} can't be had ({why_not(error)})"
        raise WrongSetting(f"{key}._target_", text) from error
    if taken is not None:
        check_keys(key, node, taken, used)


def kind_of_node(type_: Any) -> str:
    """Describe in words a setting that can't be a scalar."""
    if is_section(type_):
        taken = signature(type_.target)
        assert taken is not None
        return f"keys of its own: {', '.join(taken.settings)}"
    return "a part with keys of its own" if isinstance(type_, Part) else words(type_)


def advice(key: str, type_: Any, name: str = "NAME") -> str:
    """Say how to give a part, or a value, to a key."""
    inner = core(type_)
    if key.startswith("hooks.") and isinstance(inner, Part):
        return f"name a class by {key}._target_=module.Class, or choose one by +hook=NAME"
    if is_section(inner):
        return f"as {key}.{next(iter(signature(inner.target).settings))}=…"  # type: ignore[union-attr]
    if is_mapping(inner):
        return f"as {key}.NAME=…"
    if isinstance(inner, Part):
        return f"choose one by {key.replace('.', '/')}={name}"
    return f"as {key}=…, {words(type_)}"


def meant(name: str) -> str:
    """Return the key of Hydra's that a name is nearly one of, as `target` is of `_target_`; empty if there is none."""
    close = difflib.get_close_matches(name.strip("_"), [key.strip("_") for key in HYDRAS], 1, 0.85)
    return f"_{close[0]}_" if close else ""


def unknown(key: str, path: str, settings: dict[str, Setting], taken: Signature) -> str:
    """Describe an unknown key, and suggest the nearest one."""
    name = key.rpartition(".")[2]
    close = (
        [meant(name)] if meant(name) else [near for near in nearest(name, settings, 1) if likeness(name, near) > 0.5]
    )
    hint = f"; did you mean {path + '.' if path else ''}{close[0]}?" if close else ""
    who = "" if taken.owner.startswith("pgrun.config.") else f": {short(taken.owner)} takes no {name!r}"
    if annotates(taken.owner, name):
        hint = f", which it annotates only: write @dataclass(kw_only=True) above class {last(taken.owner)}"
    return f"there is no key {key}{who}{hint}"


def annotates(owner: str, name: str) -> bool:
    """Return whether a class of the user's has an annotation by this name, as a dataclass's field would be."""
    if owner.startswith("pgrun."):
        return False
    own = [base for base in getattr(find(owner), "__mro__", ()) if not base.__module__.startswith("pgrun.")]
    return any(name in inspect.get_annotations(base) for base in own)


def last(name: str) -> str:
    """Return the last part of a dotted name."""
    return name.rpartition(".")[2]


def short(owner: str) -> str:
    """Return the short name of a class or function of pgrun; other names stay whole."""
    return owner.rpartition(".")[2] if owner.startswith("pgrun.") else owner


def validate_keys(config: DictConfig, changed: Iterable[str]) -> None:
    """Check only the values of some keys, since a config of another version may have keys that are unknown today.

    Raises:
        UserError: a value has a wrong type, or is out of its range.
    """
    wanted = set(changed)
    for key, setting, value in every_key(config):
        if key in wanted and setting is not None:
            check_value(key, value, setting.type, set())
