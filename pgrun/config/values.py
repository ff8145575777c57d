"""Check a composed config: compare each key with the arguments of the class or function that takes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pgrun.config.root import EXTRAS, GIVEN
from pgrun.config.signatures import Part, Setting, Signature, signature
from pgrun.config.suggest import nearest
from pgrun.config.types import core, is_mapping, is_plain, may_be_null, problem, said, words
from pgrun.config.walk import HYDRAS, ROOT, every_key, is_section, makes, taken_by
from pgrun.errors import UserError


class WrongSetting(UserError):
    """An unknown key, or a key with a wrong value.

    Args:
        key: its dotted name.
        message: what is wrong, and what would be right.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


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
        if node in config and node not in root.settings and node not in used:
            inside = config[node]
            first = f"{node}.{next(map(str, inside), '')}" if isinstance(inside, DictConfig) else node
            raise WrongSetting(
                first.rpartition(".")[2] or node,
                f"{group}={member} sets {first}, which nothing reads: let its file begin with '# @package _global_'",
            )


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
    for name in map(str, node):
        key = f"{path}.{name}" if path else name
        if OmegaConf.is_missing(node, name):
            raise WrongSetting(key, f"{key} has no value: give it one, {key}=…")
        if name in HYDRAS:
            continue
        setting = settings.get(name)
        if setting is not None:
            check_value(key, node[name], setting.type, used)
        elif not taken.open and key not in used:
            raise WrongSetting(key, unknown(key, path, settings, taken))
    for name, setting in settings.items():
        if setting.required and name not in node:
            key = f"{path}.{name}" if path else name
            raise WrongSetting(key, f"{key} is missing: {short(taken.owner)} needs it; {advice(key, setting.type)}")


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
            raise WrongSetting(key, f"{key} has no _target_, which says what it makes; {advice(key, type_)}")
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
        cause = error.__cause__ or error
        text = f"{key}._target_={node._target_} can't be had ({type(cause).__name__}: {str(cause).splitlines()[-1]})"
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


def unknown(key: str, path: str, settings: dict[str, Setting], taken: Signature) -> str:
    """Describe an unknown key, and suggest the nearest one."""
    name = key.rpartition(".")[2]
    close = nearest(name, settings, 1)
    hint = f"; did you mean {path + '.' if path else ''}{close[0]}?" if close else ""
    who = "" if taken.owner.startswith("pgrun.config.") else f": {short(taken.owner)} takes no {name!r}"
    return f"there is no key {key}{who}{hint}"


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
