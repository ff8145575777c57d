"""Composing what pgrun itself ships for some choices, beside whatever else this process composes."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pgrun.compat.hydra import composed, hydra_kept
from pgrun.config.hydra_errors import translate
from pgrun.config.paths import config_dir
from pgrun.config.resolve import resolved
from pgrun.config.tuning import tuned_keys
from pgrun.errors import UserError
from pgrun.sweep.resolvers import register_resolvers


def compose_shipped(choices: Sequence[str]) -> tuple[DictConfig, tuple[str, ...]]:
    """Compose the shipped config of some choices; return it, resolved, and the keys that are tuned in it.

    Args:
        choices: overrides, such as algo=ppo.

    Raises:
        UserError: they can't be composed.
    """
    try:
        with hydra_kept():
            register_resolvers()
            with composed([config_dir()], "config", choices) as config:
                return resolved(config), tuple(tuned_keys(config.hydra, config))
    except HydraException as error:
        raise UserError(translate(error, choices)) from error
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error
