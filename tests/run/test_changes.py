"""Changes of a run's config when it is resumed: a hook's arguments are those of its class."""

from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from pgrun.errors import UserError
from pgrun.run.changes import change
from pgrun.run.resuming import RESUMABLE


def changed(*overrides: str) -> DictConfig:
    """The config of a run with a hook of the user's and one of pgrun's, changed."""
    config = OmegaConf.create(
        {
            "hooks": {"own": {"_target_": "own_hooks.Noisy"}, "p": {"_target_": "pgrun.hooks.plateau.Plateau"}},
            "total_steps": 100,
            "eval": {"every": 10},
        }
    )
    OmegaConf.set_struct(config, True)
    return change(config, overrides, RESUMABLE, "when a run is resumed")


def test_an_argument_with_a_default_can_be_set() -> None:
    config = changed("hooks.own.unit=9", "hooks.p.patience=7")
    assert (config.hooks.own.unit, config.hooks.p.patience) == (9, 7)
    assert changed("hooks.own=null").hooks.own is None


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("hooks.own.unti=9", "there is no key hooks.own.unti; did you mean hooks.own.unit?"),
        ("hooks.p.patiense=9", "there is no key hooks.p.patiense; did you mean hooks.p.patience?"),
        ("eval.evry=9", "there is no key eval.evry; did you mean eval.every?"),
        ("algo.gamma=9", "algo.gamma can't change when a run is resumed; total_steps, eval, "),
    ],
)
def test_a_key_that_is_not_there(override: str, line: str) -> None:
    with pytest.raises(UserError) as refused:
        changed(override)
    assert str(refused.value).startswith(line)
