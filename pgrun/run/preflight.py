"""Check a run's config and build its parts, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from pgrun.config.hydra_errors import instantiation
from pgrun.config.packages import faults, is_package
from pgrun.config.paths import config_dir
from pgrun.config.places import where, whose
from pgrun.config.resolve import renew_targets
from pgrun.config.root import KINDS
from pgrun.config.unknown_keys import task_part
from pgrun.config.values import WrongSetting, validate
from pgrun.config.walk import make_absolute
from pgrun.errors import UserError, WrongSpace
from pgrun.run.console import remark
from pgrun.run.instantiate import Missing
from pgrun.trust.code import top_names
from pgrun.trust.finder import allow
from pgrun.trust.kinds import check_class


def prepare(config: DictConfig, *, fresh: bool = True) -> Any:
    """Check a composed config (with its `hydra` node) and build its parts.

    Raises:
        UserError: a setting is wrong, or a part can't be built.
    """
    check(config)
    make_absolute(config)
    from pgrun.run.build import build

    try:
        return build(config, fresh=fresh)
    except WrongSpace as error:
        able = [name for name, algorithm in algorithms().items() if isinstance(error.space, algorithm.action_spaces)]
        raise UserError(f"{error}; algo={', '.join(able)} can act there") from error
    except Missing as error:
        choices = {str(group): str(choice) for group, choice in config.hydra.runtime.choices.items()}
        raise UserError(f"{error}{whose(own_folder(config), error.path, choices)}") from error
    except HydraException as error:
        raise UserError(instantiation(error)) from error


def algorithms() -> dict[str, Any]:
    """Return the shipped algorithms' classes by their names on the command line."""
    from hydra.utils import get_class

    classes = {}
    for path in sorted((config_dir() / "algo").glob("*.yaml")):
        classes[path.stem] = get_class(OmegaConf.load(path).algo._target_)
    return classes


def check(config: DictConfig) -> None:
    """Raise UserError if a key is unknown, or a value has a wrong type or is out of its range.

    From here on Python finds the user's modules that the config names.
    """
    renew_targets(config)
    allow(top_names(OmegaConf.to_container(config, resolve=False)))
    choices = {str(group): str(choice) for group, choice in config.hydra.runtime.choices.items()}
    try:
        validate(task_part(config), choices)
    except WrongSetting as error:
        check_kind(config, error.key)
        given = {o.lstrip("+~").partition("=")[0] for o in config.hydra.overrides.task}
        if error.key in given:
            raise
        folder = own_folder(config)
        place = whose(folder, error.lacked_by, choices) if error.lacked_by else where(folder, error.key, choices)
        raise UserError(f"{error}{place}") from error


def check_kind(config: DictConfig, key: str) -> None:
    """Raise UserError if a wrong key is one of a part whose class, the user's, is of another kind than its slot takes.

    All keys of such a part are likely to be wrong.
    """
    slot = key.rpartition(".")[0]
    node = OmegaConf.select(config, slot) if slot in KINDS else None
    if isinstance(node, DictConfig) and not str(node.get("_target_", "pgrun.")).startswith("pgrun."):
        check_class(slot, node._target_, KINDS[slot])


def own_folder(config: DictConfig) -> Path | None:
    """Return the user's config folder that a config was composed from; None if there is none."""
    every = config.hydra.runtime.config_sources
    sources = [source for source in every if source.schema == "file" and not is_package(source)]
    folders = [Path(source.path) for source in sources if Path(source.path) != config_dir()]
    return folders[0] if folders else None


def report_faults() -> None:
    """Say what is wrong with installed packages of configs, where what was asked for does not need them."""
    for fault in faults():
        remark(f"pgrun: {fault}")
