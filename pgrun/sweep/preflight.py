"""Check everything that a sweep will try, before its directory is made."""

from __future__ import annotations

import importlib.util
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.types import RunMode
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf, open_dict

from pgrun.config.resolve import renew_targets
from pgrun.config.values import check_part
from pgrun.errors import UserError
from pgrun.run.preflight import check
from pgrun.trust.code import top_names
from pgrun.trust.finder import allow
from pgrun.trust.kinds import check_kinds

# a plugin's class, the package it needs, and the extra that installs it
NEEDS = {
    "JoblibLauncher": ("joblib", "sweep"),
    "RayLauncher": ("ray", "ray"),
    "SlurmLauncher": ("submitit", "slurm"),
    "OptunaSweeper": ("optuna", "sweep"),
}


def check_plugins(config: DictConfig) -> None:
    """Replace Hydra's basic launcher and sweeper by pgrun's, and check the chosen ones' settings.

    Raises:
        UserError: a package that a plugin needs is missing, or a setting is wrong.
    """
    renew_targets(config.hydra)
    allow(top_names(OmegaConf.to_container(config, resolve=False)))
    for part in (config.hydra.launcher, config.hydra.sweeper):
        name = str(part._target_).rpartition(".")[2]
        if name == "BasicLauncher":
            with open_dict(config):
                part._target_ = "hydra_plugins.pgrun_plugins.BasicLauncher"
        package, extra = NEEDS.get(name, ("", ""))
        if name == "BasicSweeper":
            with open_dict(config):
                part._target_ = "hydra_plugins.pgrun_plugins.GridSweeper"
        if package and importlib.util.find_spec(package) is None:
            raise UserError(f"{name} needs a package that is not installed: pip install 'pgrun[{extra}]'")
    for key in ("launcher", "sweeper"):
        check_kinds(OmegaConf.to_container(config.hydra[key], resolve=True), f"hydra.{key}")
        if str(config.hydra[key]._target_).startswith("hydra_plugins.pgrun_"):
            check_plugin(f"hydra.{key}", config.hydra[key])


def check_plugin(path: str, part: DictConfig) -> None:
    """Raise UserError if a launcher or sweeper of pgrun has a wrong setting."""
    check_part(path, part, used=set())


def check_sweep(config: DictConfig) -> None:
    """Compose and check jobs of a sweep: one for each value of each swept key, and one for each end of an interval.

    In each of them, the other swept keys have their first value.
    """
    loader = GlobalHydra.instance().config_loader()
    space = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=loader)
    given = {o.key_or_group: o for o in parser.parse_overrides([*space, *config.hydra.overrides.task])}
    listed = [swept_values(override) for override in given.values()]
    sweeper = str(config.hydra.sweeper._target_).rpartition(".")[2]
    if sweeper == "OptunaSweeper":
        get_method("pgrun.sweep.optuna.sweeper.search_space")([*space, *config.hydra.overrides.task])
    for override in given.values():
        if sweeper == "GridSweeper" and override.value_type is ValueType.INTERVAL_SWEEP:
            raise UserError(f"{override.input_line}: only hydra/sweeper=optuna can search an interval")

    root = config.hydra.job.config_name

    def composed(overrides: list[str]) -> DictConfig:
        return loader.load_configuration(config_name=root, overrides=overrides, run_mode=RunMode.RUN)

    first = [values[0] for values in listed]
    base = composed(first)
    check(base)
    for i, (override, values) in enumerate(zip(given.values(), listed, strict=True)):
        for value in values[1:]:
            overrides = [*first[:i], value, *first[i + 1 :]]
            if override.is_add() or override.is_force_add() or chosen_groups(base, [value]):
                check(composed(overrides))
            else:  # only a value changes, so the slow composing is not needed
                job = base.copy()
                OmegaConf.update(job, override.key_or_group, parser.parse_override(value).value())
                check(job)


def swept_values(override: Override) -> list[str]:
    """List an override's values, each as an override; of an interval, its two ends.

    Raises:
        UserError: there is no value.
    """
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if override.value_type is ValueType.INTERVAL_SWEEP:
        interval: Any = override.value()
        return [f"{key}={interval.start}", f"{key}={interval.end}"]
    if override.value_type is ValueType.RANGE_SWEEP and not override.value().step:  # type: ignore[union-attr]
        raise UserError(f"{override.input_line}: a range's step can't be 0")
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        why = "a range goes from low to high, as range(1,5), and a glob has to match a name"
        raise UserError(f"{override.input_line} is no value at all: {why}")
    return values


def chosen_groups(config: DictConfig, overrides: list[str]) -> tuple[str, ...]:
    """Select the overrides that choose a member of a config group."""
    choices = config.hydra.runtime.choices
    return tuple(o for o in overrides if o.lstrip("+~").split("=")[0].split("@")[0] in choices)
