"""A constructor's arguments are read from its source as Python itself would say them."""

import inspect
import subprocess
import sys
import typing

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from pgrun.config.paths import config_dir
from pgrun.config.ranges import Fraction, Positive, Scheduled
from pgrun.config.signatures import meanings, signature
from pgrun.config.types import core
from pgrun.data.callables import accepted


def targets() -> list[str]:
    """Every class and function of pgrun's that a shipped config names."""
    found: set[str] = set()

    def look(node: object) -> None:
        if isinstance(node, dict):
            found.add(str(node.get("_target_", "")))
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    for path in config_dir().rglob("*.yaml"):
        look(OmegaConf.to_container(OmegaConf.load(path), resolve=False))
    return sorted(target for target in found if target.startswith(("pgrun.", "hydra_plugins.pgrun")))


@pytest.mark.parametrize("target", targets())
def test_the_names_are_those_that_python_takes(target):
    taken = signature(target)
    assert taken is not None
    python = accepted(get_object(target))
    rest = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = {name for name, parameter in python.items() if parameter.kind not in rest}
    assert set(taken.settings) == named
    for name in named:
        assert taken.settings[name].required or python[name].default is not inspect.Parameter.empty, name


def test_types_ranges_and_meanings():
    ppo = signature("pgrun.algos.ppo.PPO").settings
    assert ppo["gamma"].type == Fraction
    assert ppo["gamma"].owner == "pgrun.algos.parts.base.Learner"
    assert core(ppo["clip_range"].type) == Scheduled[Positive]
    assert typing.get_args(ppo["kl_in"].type) == ("loss", "reward")
    assert ppo["value_coef"].meaning.startswith("c₁, weight of the value loss")
    assert signature("torch.optim.Adam") is None
    assert signature("pgrun.nn.MLP").owner == "pgrun.nn.encoders.MLP"


def test_what_a_subclass_says_counts_and_what_it_gives_its_base_is_no_setting():
    assert "whole_episodes" in signature("pgrun.algos.ppo.PPO").settings
    assert "sequence" not in signature("pgrun.nn.MLP").settings
    assert "sequence" in signature("pgrun.nn.Recurrent").settings


def test_meanings_of_several_lines_and_of_several_names():
    text = """Title.

    Args:
        a, b: first
            and second.
        c: third: with a colon.

    Raises:
        UserError: d: no argument.
    """
    assert meanings(text) == {"a": "first and second.", "b": "first and second.", "c": "third: with a colon."}


def test_nothing_heavy_is_imported():
    code = "import sys; from pgrun.config.signatures import signature; signature('pgrun.algos.ppo.PPO'); "
    code += "signature('pgrun.envs.make'); print('torch' in sys.modules, 'gymnasium' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False"]
