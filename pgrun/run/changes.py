"""Changes of a run's config when it is resumed or evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pgrun.config.hydra_errors import instantiation
from pgrun.config.quoting import unreadable
from pgrun.config.suggest import nearest
from pgrun.config.targets import find
from pgrun.config.values import validate_keys
from pgrun.config.walk import keys
from pgrun.data.callables import accepted
from pgrun.errors import UserError
from pgrun.run.console import shown
from pgrun.run.instantiate import Missing
from pgrun.trust.code import top_names


def change(config: DictConfig, overrides: Sequence[str], able: Sequence[str], when: str) -> DictConfig:
    """Change values of a run's config.

    Args:
        config: the run's config.
        overrides: `key=value` each.
        able: the keys that may change, or the sections that they are in.
        when: the occasion, in the words of a refusal.

    Raises:
        UserError: a key can't change, or a value is wrong.
    """
    known = [key for key in keys(config) if within(key, able)] + [key for key in able if key.startswith("eval.")]
    hooks = dict(config.get("hooks") or {}) if "hooks" in able else {}
    known += [f"hooks.{name}" for name in hooks]
    known += [f"hooks.{name}.{key}" for name, node in hooks.items() for key in taken(node)]
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals:
            raise UserError(f"can't read {text!r}: write key=value")
        if key not in known and not key.startswith("eval.env."):  # that has the keys of `env`
            close = f"eval.{key}" if key.startswith("env.") and "eval.env" in known else nearest(key, known, 1)[0]
            other = key in set(keys(config)) and not close.startswith("eval.env")  # it is meant as it is written
            if within(key, able) and not other and "." in key:
                raise UserError(f"there is no key {key}; did you mean {close}?")
            meant = "" if other else f" (did you mean {close}?)"
            raise UserError(f"{key} can't change {when}; {', '.join(able)} can{meant}")
        try:
            if key.startswith(("eval.env.", "hooks.")):
                OmegaConf.set_struct(config, False)
            if key.startswith("eval.env."):
                found = OverridesParser.create().parse_override(f"++{text}").value()
                OmegaConf.update(config, key, found, force_add=True)
            else:
                config = DictConfig(OmegaConf.merge(config, OmegaConf.from_dotlist([text])))
        except HydraException as error:
            raise UserError(unreadable(text)) from error
        except OmegaConfBaseException as error:
            raise UserError(str(error).splitlines()[0]) from error
    validate_keys(config, (text.partition("=")[0] for text in overrides))
    return config


def taken(node: Any) -> list[str]:
    """List the arguments that a hook's class takes, given its part of a config; none where it can't be had."""
    try:
        return list(accepted(find(str(node["_target_"]))))
    except Exception:  # it is told when the hook is made
        return []


def top_names_of(overrides: Sequence[str]) -> set[str]:
    """List the top-level names of the modules that overrides name, as `eval.env.wrappers=[mine.Clip]` does."""
    try:
        content = OmegaConf.from_dotlist([text for text in overrides if "=" in text])
        return top_names(OmegaConf.to_container(content))
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, AttributeError):
        return set()  # what is wrong is told when they are made


def within(key: str, names: Sequence[str]) -> bool:
    """Tell whether a dotted key is one of these names, or in a section that they name."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


@contextmanager
def report_stale_config(folder: Path) -> Iterator[None]:
    """Say in one line what can't be built of a run directory's config; another version may have written it."""
    try:
        yield
    except Missing as error:  # it was made before the class took them: a run's config has all that its class then took
        names = ", ".join(error.names)
        raise UserError(
            f"{shown(folder)} was made before {error.target} took {names}: give {names} a default"
        ) from error
    except HydraException as error:  # a class that the config names is no longer there, say
        raise UserError(instantiation(error)) from error
    except OmegaConfBaseException as error:
        written = folder / ".hydra" / "config.yaml"
        more = "another version of pgrun wrote it: go on with that one"
        raise UserError(f"{written}: {str(error).splitlines()[0]}; {more}") from error
