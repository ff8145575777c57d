"""Compose and check a config without running it, and tell in one line what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pgrun.api.hydra_start import composed
from pgrun.api.rewriting import rewritten
from pgrun.compat.hydra import drop_namesakes
from pgrun.config.files import yaml_line
from pgrun.config.hydra_errors import instantiation, translate
from pgrun.config.paths import config_dir
from pgrun.config.quoting import explained
from pgrun.config.resolve import resolved
from pgrun.config.signatures import Signature
from pgrun.config.tuning import check_tuning
from pgrun.config.walk import known_of
from pgrun.errors import UserError
from pgrun.run.preflight import check
from pgrun.sweep.resolvers import register_resolvers
from pgrun.trust.code import top_names
from pgrun.trust.finder import allow


def checked_config(argv: Sequence[str]) -> DictConfig:
    """Compose and check the config of a command line, without its `hydra` node; nothing is built.

    Raises:
        UserError: a setting is wrong.
    """
    with composed_for_a_run(argv) as config:
        check(config)
        return resolved(config)


@contextmanager
def composed_for_a_run(argv: Sequence[str]) -> Iterator[DictConfig]:
    """Compose the config of a command line for the block, with its `hydra` node; its values are not checked yet.

    Raises:
        UserError: the line or a file is wrong, or what is done in the block with the config finds it so.
    """
    register_resolvers()
    drop_namesakes(config_dir())
    try:
        with composed(rewritten(argv)) as config:
            HydraConfig.instance().set_config(config)
            check_tuning(config)
            yield config
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise told(error, argv) from error


def told(error: Exception, argv: Sequence[str]) -> UserError:
    """Tell in one line what is wrong with a command line or a config file."""
    if isinstance(error, UserError):
        return error if error.exit_code == UserError.exit_code else UserError(str(error))
    if isinstance(error, InstantiationException):
        return UserError(instantiation(error))
    if isinstance(error, YAMLError):
        return UserError(yaml_line(error))
    return UserError(explained(error, argv) or translate(error, argv, own_too))


def own_too(target: str) -> Signature | None:
    """Return the arguments of a class or function, the user's own too; None if they can't be known."""
    allow(top_names({"_target_": target}))
    return known_of(target)
